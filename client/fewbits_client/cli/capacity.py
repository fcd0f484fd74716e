"""`attempts` and `quotas`: what work has cost, and what a team may have at once."""

import click

from fewbits_client.cli.command import job_argument, talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.wording import NOTHING, size
from fewbits_client.client import Client
from fewbits_client.objects import Attempt


@click.command()
@job_argument
@talks_to_server
def attempts(client: Client, output: Output, job_id: str) -> Exit:
    """Show every attempt of a job's steps: where it was made, and how it ended.

    `fewbits logs JOB --step STEP --attempt NUMBER` prints what one has printed.
    """
    found = client.attempts(job_id)
    if output.as_json:
        output.page(found)
    elif found:
        columns = ["step", "attempt", "started", "ended", "outcome", "memory", "host", "device", "error"]
        table(columns, [_row(attempt) for attempt in found])
    else:
        output.complain(f"nothing of {job_id} has been tried yet")
    return Exit.OK


@click.command()
@talks_to_server
def quotas(client: Client, output: Output) -> Exit:
    """Show what your team may have at once, and what it has."""
    found = client.quotas()
    if output.as_json:
        output.page(found)
        return Exit.OK
    table(
        ["quota", "used", "maximum"],
        [[quota["name"], str(quota["used"]), _maximum(quota["maximum"])] for quota in found],
    )
    return Exit.OK


def _row(attempt: Attempt) -> list[str]:
    error = attempt["error"]
    return [
        attempt["step"],
        str(attempt["number"]),
        attempt["started_at"],
        attempt["ended_at"] or NOTHING,
        attempt["outcome"] or "running",
        size(attempt["peak_memory_bytes"]),
        attempt["host"],
        attempt["device"],
        error["message"] if error else "",
    ]


def _maximum(maximum: int | None) -> str:
    return "no limit" if maximum is None else str(maximum)
