"""`submit` and `retry`: from a folder and recipes, or from an older job, to jobs."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import click

from fewbits_client.cli.command import job_argument, talks_to_server
from fewbits_client.cli.display import display_for
from fewbits_client.cli.exits import Exit, exit_for_error, exit_for_jobs
from fewbits_client.cli.following import Interrupted, wait_for
from fewbits_client.cli.looking import results_table
from fewbits_client.cli.output import Output
from fewbits_client.client import Client
from fewbits_client.errors import FewbitsError
from fewbits_client.objects import Job, SubmitOptions

Recipes = Sequence[str | Mapping[str, Any]]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def _source_url(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Return the source as a URL; only the server can judge one that was given as such."""
    if _SCHEME.match(value):
        return value
    # Links are followed, as the server does with the folders that it allows.
    path = Path(value).expanduser().resolve()
    if not path.is_dir():
        problem = "is not a folder" if path.exists() else "does not exist"
        raise click.BadParameter(f"{path} {problem} on this machine; a folder of the server's is {path.as_uri()}")
    return path.as_uri()


def _destination_url(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return the destination as a URL; the folder is the server's, and is not there yet."""
    if value is None or _SCHEME.match(value):
        return value
    return Path(value).expanduser().resolve().as_uri()


def _pairs(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for value, (name, equals, _) in zip(values, pairs, strict=True):
        if not name or not equals:
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE")
    return {name: text for name, _, text in pairs}


def _recipes(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> Recipes:
    """Return each recipe as the API takes it: a short form is a text, a long form an object."""
    try:
        return [
            json.loads(value, parse_constant=_refuse_constant) if value.lstrip().startswith("{") else value
            for value in values
        ]
    except ValueError as error:
        raise click.BadParameter(f"a recipe that begins with {{ must be a JSON object: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


@click.command()
@click.argument("source", callback=_source_url)
@click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True, callback=_recipes)
@click.option("--windows", type=click.IntRange(1, 10000), help="Windows of 512 tokens to score in each domain.")
@click.option("--domain", "domains", multiple=True, help="A text to judge by, such as prose; may be repeated.")
@click.option(
    "--metadata", metavar="NAME=VALUE", multiple=True, callback=_pairs, help="A note on the job; may be repeated."
)
@click.option("--label", "labels", multiple=True, help="A tag to find the job by; may be repeated.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Above 0 goes first within the team.")
@click.option("--max-runtime", "max_runtime_seconds", type=click.IntRange(1), help="Seconds the work may take.")
@click.option("--max-pending", "max_pending_seconds", type=click.IntRange(1), help="Seconds it may wait to begin.")
@click.option("--max-attempts", type=click.IntRange(1), help="How often a step that goes wrong is tried.")
@click.option("--wait-for-capacity", is_flag=True, help="Submit also what no worker could run, to wait for one.")
@click.option("--publish-to", metavar="FOLDER", callback=_destination_url, help="A new folder for the result.")
@click.option("--wait", is_flag=True, help="Stay until the jobs are over; the exit status says how they ended.")
@talks_to_server
def submit(client: Client, output: Output, source: str, recipes: Recipes, *, wait: bool, **options: Any) -> Exit:
    """Quantize SOURCE by each RECIPE, one job for each.

    SOURCE is a folder of this machine that the server sees under the same path, or a URL that is sent as it is:
    file:///…, hf://org/name@revision, s3://bucket/prefix.  RECIPE is a short form such as gguf:Q4_K_M, or in full
    '{"method": "gptq", "calibration_samples": 256}'; `fewbits methods` lists them.  With --json one list of the jobs.
    """
    if options["publish_to"] and len(recipes) > 1:
        raise click.UsageError("--publish-to names one folder for one result: submit each RECIPE by itself.")
    jobs, error = _submit_each(client, output, source, recipes, _given(options))
    status = exit_for_error(error) if error else Exit.OK
    if wait and jobs and error is None:
        jobs, status = wait_for_results(client, output, jobs)
    if output.as_json:
        page: dict[str, Any] = {"object": "list", "data": jobs, "has_more": False}
        output.document(page if error is None else {**page, "error": output.failure(error)})
    return status


@click.command()
@job_argument
@click.option("--wait", is_flag=True, help="Stay until the new job is over; the exit status says how it ended.")
@talks_to_server
def retry(client: Client, output: Output, job_id: str, *, wait: bool) -> Exit:
    """Ask once more for what a JOB that is over asked for, as a new job.

    What had succeeded of it is not done again.  With --json the new job.
    """
    job, status = client.retry(job_id), Exit.OK
    say_submitted(output, job)
    if wait:
        [job], status = wait_for_results(client, output, [job])
    if output.as_json:
        output.document(job)
    return status


def wait_for_results(client: Client, output: Output, jobs: list[Job]) -> tuple[list[Job], Exit]:
    """Return the jobs as they ended, or as they were when Ctrl-C came, and the status that says so."""
    try:
        jobs = wait_for(client, output, jobs, display_for(output, jobs))
    except Interrupted:
        return jobs, Exit.INTERRUPTED
    if not output.as_json:
        results_table(output, jobs)
    return jobs, exit_for_jobs(jobs)


def say_submitted(output: Output, job: Job) -> None:
    """Say which job was made."""
    output.line(f"{job['id']} {job['recipe']} {job['status']}")


def _submit_each(
    client: Client, output: Output, source: str, recipes: Recipes, options: SubmitOptions
) -> tuple[list[Job], FewbitsError | None]:
    """Submit until one is refused; the jobs made until then are not lost from sight."""
    jobs: list[Job] = []
    for recipe in recipes:
        try:
            job = client.submit(source, recipe, **options)
        except FewbitsError as error:
            output.complain(f"fewbits: {recipe}: {error}")
            if jobs:
                output.complain(f"submitted before that: {' '.join(job['id'] for job in jobs)}")
            return jobs, error
        jobs.append(job)
        say_submitted(output, job)
    return jobs, None


def _given(options: Mapping[str, Any]) -> SubmitOptions:
    """Return the options that were said; the server has the defaults of the others."""
    said = {name: value for name, value in options.items() if value not in (None, (), {}) and value is not False}
    return cast("SubmitOptions", said)
