"""`attempts` and `quotas`: what work has cost, and what a team may have at once."""

import datetime as dt
from collections.abc import Sequence

import click

from fewbits_client.cli.command import job_argument, talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.wording import number, one_line, size
from fewbits_client.client import Client
from fewbits_client.objects import Attempt

AMOUNTS = ("memory", "GPU memory", "scratch disk")


@click.command()
@job_argument
@talks_to_server
def attempts(client: Client, output: Output, job_id: str) -> Exit:
    """Show every attempt of a job's steps: where it was made, how it ended, and what it took.

    Memory, GPU memory and scratch disk are the most that was measured, of what had been forecast.

    `fewbits logs JOB --step STEP --attempt NUMBER` prints what one has printed.
    """
    found = client.attempts(job_id)
    if output.as_json:
        output.page(found)
    elif found:
        columns = ["step", "attempt", "outcome", "started (UTC)", "seconds", *AMOUNTS, "where"]
        table(columns, [_row(attempt) for attempt in found])
        _say_errors(output, found)
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
    started = _moment(attempt["started_at"])
    seconds = (_moment(attempt["ended_at"]) - started).total_seconds() if attempt["ended_at"] else None
    return [
        attempt["step"],
        str(attempt["number"]),
        attempt["outcome"] or "running",
        f"{started:%Y-%m-%d %H:%M:%S}",
        number(seconds, 1),
        _amount(attempt["peak_memory_bytes"], attempt.get("forecast_memory_bytes")),
        _amount(attempt.get("peak_vram_bytes"), attempt.get("forecast_vram_bytes")),
        _amount(attempt.get("peak_scratch_bytes"), attempt.get("forecast_scratch_bytes")),
        f"{attempt['host']} {attempt['device']}",
    ]


def _amount(peak: int | None, forecast: int | None) -> str:
    """Return what was measured, of what was forecast; an older server does not say all of it."""
    return f"{size(peak)} of {size(forecast)}" if forecast else size(peak)


def _say_errors(output: Output, attempts: Sequence[Attempt]) -> None:
    """Print the errors below the table, in which they would leave no room for the rest."""
    failed = [(attempt, attempt["error"]) for attempt in attempts if attempt["error"]]
    if failed:
        output.line("")
    for attempt, error in failed:
        output.line(one_line(f"{attempt['step']}, attempt {attempt['number']}: {error['message']}"))


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def _maximum(maximum: int | None) -> str:
    return "no limit" if maximum is None else str(maximum)
