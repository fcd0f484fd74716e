"""``python -m tests.chaos``: break the whole stack on purpose, again and again, and count what was lost or done twice.

The last line of stdout is one JSON object with the numbers; the exit status is 0 only if every promise was kept.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import click

from core.errors import StartFailed
from tests.chaos.harness import Harness, Report, table
from tests.chaos.plan import FULL_JOBS, plan

SHOWN = 20


@click.command()
@click.option("--seed", type=int, help="The plan to run. [default: a new one]")
@click.option("--jobs", type=click.IntRange(5), default=FULL_JOBS, show_default=True, help="Jobs to ask for.")
@click.option("--minutes", type=click.FloatRange(0.1), help="The time in which all comes. [default: by the jobs]")
@click.option("--keep", is_flag=True, help="Leave the folder with its logs, and say where it is.")
def main(seed: int | None, jobs: int, minutes: float | None, *, keep: bool) -> None:
    """Run the stack under faults, and print what came of it."""
    chosen = int.from_bytes(os.urandom(3)) if seed is None else seed
    if keep:
        folder = Path(tempfile.mkdtemp(prefix="fewbits-chaos-"))
        click.echo(f"everything is kept in {folder}")
        report = _run(folder, chosen, jobs, minutes)
    else:
        with tempfile.TemporaryDirectory(prefix="fewbits-chaos-", ignore_cleanup_errors=True) as temporary:
            report = _run(Path(temporary), chosen, jobs, minutes)
    broken = report.broken_promises()
    click.echo(table(report.faults))
    for name, found in vars(report.findings).items():
        for what in found[:SHOWN]:
            click.echo(f"{name}: {what}")
    for what in broken:
        click.echo(f"not as promised: {what}")
    click.echo(json.dumps(report.summary()))
    sys.exit(1 if broken else 0)


def _run(folder: Path, seed: int, jobs: int, minutes: float | None) -> Report:
    folder.chmod(0o711)  # Postgres refuses to run as root, so its own user must be able to pass through
    try:
        return Harness(plan(seed, jobs, minutes), folder, click.echo).run()
    except StartFailed as error:
        raise click.ClickException(error.message) from error


if __name__ == "__main__":
    main()
