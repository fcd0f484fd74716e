"""`submit` and `retry`: from a folder and recipes, or from an older job, to jobs."""

from typing import Any

import click

from fewbits_client.cli.asking import Recipes, asks_for_a_job, given
from fewbits_client.cli.command import job_argument, talks_to_server
from fewbits_client.cli.display import display_for
from fewbits_client.cli.exits import Exit, exit_for_error, exit_for_jobs
from fewbits_client.cli.following import Interrupted, wait_for
from fewbits_client.cli.looking import results_table
from fewbits_client.cli.output import Output
from fewbits_client.client import Client
from fewbits_client.errors import FewbitsError
from fewbits_client.objects import Job, SubmitOptions


@click.command()
@asks_for_a_job
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
    jobs, error = _submit_each(client, output, source, recipes, given(options))
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
