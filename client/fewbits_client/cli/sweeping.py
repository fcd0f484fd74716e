"""`sweep`: many recipes on one source, compared."""

from collections.abc import Sequence
from typing import Any

import click

from fewbits_client.cli.asking import Recipes, asks_for_a_sweep, given, recipes_argument
from fewbits_client.cli.command import checked_id, talks_to_server
from fewbits_client.cli.display import display_for
from fewbits_client.cli.exits import Exit, exit_for_jobs
from fewbits_client.cli.output import Output, table
from fewbits_client.cli.sweep_table import counted, show_answer, show_sweep
from fewbits_client.cli.wording import NOTHING
from fewbits_client.client import Client
from fewbits_client.objects import is_over
from fewbits_client.sweeps import Sweep, unfinished_jobs

sweep_argument = click.argument("sweep_id", metavar="SWEEP", callback=checked_id)
wait_option = click.option("--wait", is_flag=True, help="Stay until all jobs are over; the exit status says how.")


@click.group()
def sweep() -> None:
    """Compare many recipes on one source, and see which result to ship."""


@sweep.command()
@asks_for_a_sweep
@wait_option
@talks_to_server
def submit(  # noqa: PLR0913  # as many as the command line has
    client: Client,
    output: Output,
    source: str,
    recipes: Recipes,
    *,
    preset: str | None,
    wait: bool,
    **options: Any,
) -> Exit:
    """Quantize SOURCE by each RECIPE, or by those of a preset, and compare the results.

    SOURCE and RECIPE are as in `fewbits submit`. All of them are taken, or none; of a preset those that do not go with
    the model are left out. What the jobs have in common is done once.
    """
    if bool(recipes) == bool(preset):
        raise click.UsageError("Name each RECIPE, or one --preset in their place.")
    made = client.submit_sweep(source, recipes or None, preset=preset, **given(options))
    return _made(client, output, made, wait=wait)


@sweep.command()
@sweep_argument
@recipes_argument
@wait_option
@talks_to_server
def extend(client: Client, output: Output, sweep_id: str, recipes: Recipes, *, wait: bool) -> Exit:
    """Add each RECIPE to a SWEEP, whether it has ended or not; only these run."""
    return _made(client, output, client.extend_sweep(sweep_id, recipes), wait=wait)


@sweep.command()
@sweep_argument
@talks_to_server
def show(client: Client, output: Output, sweep_id: str) -> Exit:
    """Show a sweep: its results side by side, which of them no other beats, and which to ship."""
    found = client.sweep(sweep_id)
    if output.as_json:
        output.document(found)
    else:
        show_sweep(output, found)
    return Exit.OK


@sweep.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, the newest.")
@talks_to_server
def list_sweeps(client: Client, output: Output, *, limit: int) -> Exit:
    """List sweeps, newest first."""
    output.newest(client.sweeps(), limit, _sweeps_table)
    return Exit.OK


def _sweeps_table(shown: Sequence[Sweep]) -> None:
    rows = [
        [one["id"], one["status"], counted(one["jobs"]), one["preset"] or NOTHING, one["created_at"], one["source"]]
        for one in shown
    ]
    table(["sweep", "status", "jobs", "preset", "created", "source"], rows)


@sweep.command()
@sweep_argument
@talks_to_server
def watch(client: Client, output: Output, sweep_id: str) -> Exit:
    """Show the jobs of a sweep until all are over; the exit status says how they ended.

    With --json one object a line: each event, progress as it changes, each job as it ends, at last the sweep.
    """
    return _follow(client, output, client.sweep(sweep_id), json_lines=True)


@sweep.command()
@sweep_argument
@talks_to_server
def cancel(client: Client, output: Output, sweep_id: str) -> Exit:
    """Stop each job of a sweep that is not over.

    The exit status is 5 when nothing could be stopped any more.
    """
    found = client.cancel_sweep(sweep_id)
    if output.as_json:
        output.document(found)
    output.line(f"{sweep_id} {found['status']}: {counted(found['jobs'])}")
    return Exit.OK


def _made(client: Client, output: Output, sweep: Sweep, *, wait: bool) -> Exit:
    """Say what was made, and stay until its end where that is wanted."""
    output.line(f"{sweep['id']} {sweep['status']}: {counted(sweep['jobs'])}")
    for warning in sweep["warnings"]:
        output.line(f"warning: {warning}")
    if wait:
        return _follow(client, output, sweep, json_lines=False)
    if output.as_json:
        output.document(sweep)
    return Exit.OK


def _follow(client: Client, output: Output, sweep: Sweep, *, json_lines: bool) -> Exit:
    """Show what happens to the jobs of a sweep until all are over, those added meanwhile too, and then the answer."""
    try:
        while unfinished_jobs(sweep):
            jobs = [job for job in client.jobs(sweep=sweep["id"]) if not is_over(job)]
            with display_for(output, jobs, json_lines=json_lines) as display:
                for job_id, update in client.stream_all([job["id"] for job in jobs]):
                    display.show(job_id, update)
            sweep = client.sweep(sweep["id"])
    except KeyboardInterrupt:
        name = sweep["id"]
        output.complain(f"{name} goes on. Watch it: fewbits sweep watch {name}   Stop it: fewbits sweep cancel {name}")
        return Exit.INTERRUPTED
    if output.as_json:
        output.document(sweep)
    else:
        show_answer(output, sweep)
    rows = sweep["rows"] or []
    # A gate is there to keep some recipes from being shipped: only if it keeps all is there nothing to ship.
    return exit_for_jobs([row for row in rows if row["verdict"] != "blocked"] or rows)
