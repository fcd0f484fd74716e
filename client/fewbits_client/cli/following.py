"""`watch` and `cancel`, and how a command waits for jobs."""

import contextlib
from collections.abc import Sequence

import click

from fewbits_client.cli.command import job_argument, talks_to_server
from fewbits_client.cli.display import Display, display_for
from fewbits_client.cli.exits import Exit, exit_for_jobs
from fewbits_client.cli.output import Output
from fewbits_client.cli.wording import outcome
from fewbits_client.client import Client
from fewbits_client.objects import Job, is_over
from fewbits_client.stream import Done


class Interrupted(Exception):
    """Ctrl-C while waiting: nothing went wrong, and the jobs go on."""


def wait_for(client: Client, output: Output, jobs: Sequence[Job], display: Display) -> list[Job]:
    """Show what happens to jobs until all are over.

    Returns:
        The jobs as they ended, in the order given.

    Raises:
        Interrupted: Ctrl-C; what to do next was said on stderr.
    """
    ended: dict[str, Job] = {}
    try:
        with display:
            for job_id, update in client.stream_all([job["id"] for job in jobs]):
                display.show(job_id, update)
                if isinstance(update, Done):
                    ended[job_id] = update.job
    except KeyboardInterrupt:
        for job in jobs:
            if job["id"] not in ended:
                say_how_to_go_on(output, job["id"])
        raise Interrupted from None
    return [ended[job["id"]] for job in jobs]


def say_how_to_go_on(output: Output, job_id: str) -> None:
    """Tell a person who stopped looking that the job has not stopped."""
    output.complain(f"{job_id} goes on. Watch it: fewbits watch {job_id}   Stop it: fewbits cancel {job_id}")


@click.command()
@job_argument
@talks_to_server
def watch(client: Client, output: Output, job_id: str) -> Exit:
    """Show a job until it is over; the exit status says how it ended.

    With --json one object a line: each event, progress as it changes, at last the job.
    """
    job = client.job(job_id)
    try:
        return exit_for_jobs(wait_for(client, output, [job], display_for(output, [job], json_lines=True)))
    except Interrupted:
        return Exit.INTERRUPTED


@click.command()
@job_argument
@click.option("--wait", is_flag=True, help="Return only when the job has stopped.")
@talks_to_server
def cancel(client: Client, output: Output, job_id: str, *, wait: bool) -> Exit:
    """Stop a job.

    The exit status is 0 when it was cancelled, and 5 when it had already ended otherwise.
    """
    job = client.cancel(job_id)
    with contextlib.suppress(KeyboardInterrupt):
        if wait and not is_over(job):
            job = client.wait(job_id)
    if output.as_json:
        output.document(job)
    output.line(f"{job_id} {outcome(job)}")
    if wait and not is_over(job):
        return Exit.INTERRUPTED
    return Exit.FAILED if job["status"] == "failed" else Exit.OK
