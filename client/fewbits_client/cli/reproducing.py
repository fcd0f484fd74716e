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
from fewbits_client.objects import Job, SubmitOptions
from fewbits_client.provenance import ANY_KIND, Provenance, read_provenance

FOR_CALIBRATION = ("text", "documents", "chat")


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
    recipe, options = _with_own_datasets(client, made)
    job = client.submit(source or made.source, recipe, **options)
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


def _with_own_datasets(client: Client, made: Provenance) -> tuple[Mapping[str, Any], SubmitOptions]:
    """Return recipe and options, with the ids under which this team has the datasets that they name.

    Raises:
        NotReproducible: the team has no dataset of these bytes.
    """
    if not made.datasets:
        return made.recipe, made.options
    mine: dict[tuple[str, str], str] = {}
    for dataset in client.datasets():
        mine[dataset["sha256"], dataset["kind"]] = dataset["id"]
        if dataset["kind"] in FOR_CALIBRATION:
            mine[dataset["sha256"], ANY_KIND] = dataset["id"]
    for sha256, kind in made.datasets.values():
        if (sha256, kind) not in mine:
            raise NotReproducible(
                f"it was made, or judged, by a dataset of the team's own, with sha256 {sha256}, which your team does "
                "not have; `fewbits datasets upload FILE` brings it"
            )
    ids = {old: mine[wanted] for old, wanted in made.datasets.items()}
    text = made.recipe.get("calibration_text")
    recipe = {**made.recipe, "calibration_text": ids[text]} if text in ids else made.recipe
    options: SubmitOptions = {**made.options, "domains": [ids.get(name, name) for name in made.options["domains"]]}
    if "tasks" in options:
        options["tasks"] = [ids.get(name, name) for name in options["tasks"]]
    if "gate" in options:
        options["gate"] = [_renamed(condition, ids) for condition in options["gate"]]
    return recipe, options


def _renamed(condition: str | Mapping[str, Any], ids: Mapping[str, str]) -> str | Mapping[str, Any]:
    if isinstance(condition, str):
        return condition
    named = {name: ids[condition[name]] for name in ("domain", "task") if condition.get(name) in ids}
    return {**condition, **named}


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
