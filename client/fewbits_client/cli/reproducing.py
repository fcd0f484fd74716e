"""`reproduce`: from a downloaded result to a job that makes the same again, and whether it did."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fewbits_client.cli.command import talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.output import Output
from fewbits_client.cli.submitting import say_submitted, wait_for_results
from fewbits_client.client import Client
from fewbits_client.errors import NotReproducible
from fewbits_client.objects import Job
from fewbits_client.provenance import Provenance, read_provenance


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--source", metavar="URL", help="Where the model is now, if it is not where it was.")
@click.option("--wait", is_flag=True, help="Stay until the job is over, and compare what it made with what there was.")
@talks_to_server
def reproduce(client: Client, output: Output, *, folder: Path, source: str | None, wait: bool) -> Exit:
    """Ask for what DIR holds to be made again, as its fewbits.json says.

    DIR is what `fewbits download` has filled.  Source, recipe and evaluation are the same; work that your team has had
    done before is reused, and with --wait it is said.  A result of a CPU has the same digests again; one of a GPU need
    not.  With --json the job, and with --wait also which files are the same.
    """
    made = read_provenance(folder)
    job = client.submit(source or made.source, _recipe(client, made), **made.options)
    say_submitted(output, job)
    status = Exit.OK
    document: dict[str, Any] = {**job}
    if wait:
        [job], status = wait_for_results(client, output, [job])
        document = {**job}
        if job["status"] == "succeeded":
            document["reproduced"] = same = _compare(client, job, made)
            _say(output, job, same)
            status = Exit.OK if all(same.values()) else Exit.FAILED
    if output.as_json:
        output.document(document)
    return status


def _recipe(client: Client, made: Provenance) -> Mapping[str, Any]:
    """Return the recipe, with the id under which this team has the dataset that it names.

    Raises:
        NotReproducible: the team has no dataset of these bytes.
    """
    if made.text_sha256 is None:
        return made.recipe
    for dataset in client.datasets():
        if dataset["sha256"] == made.text_sha256:
            return {**made.recipe, "calibration_text": dataset["id"]}
    raise NotReproducible(
        f"it was made by a dataset of the team's own, with sha256 {made.text_sha256}, which your team does not have; "
        "`fewbits datasets upload FILE` brings it"
    )


def _compare(client: Client, job: Job, made: Provenance) -> dict[str, bool]:
    """Return of each file that there was whether the job has made the same."""
    files = [file for artifact in client.artifacts(job["id"]) for file in artifact["files"]]
    digests = {file["name"]: file["sha256"] for file in files}
    return {name: digests.get(name) == sha256 for name, sha256 in made.digests.items()}


def _say(output: Output, job: Job, same: Mapping[str, bool]) -> None:
    if any(step["kind"] == "quantize" and step["reused"] for step in job["steps"]):
        output.complain("nothing was quantized anew: your team's result of the same work was reused")
    for name, is_same in same.items():
        output.line(f"{'same' if is_same else 'DIFFERENT'}  {name}")
