"""`download`: a job's files onto this disk."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from fewbits_client.cli.command import job_argument, talks_to_server
from fewbits_client.cli.exits import Exit
from fewbits_client.cli.output import Output
from fewbits_client.cli.wording import one_line
from fewbits_client.client import Client
from fewbits_client.objects import ArtifactFile


@click.command()
@job_argument
@click.option("--to", "folder", type=click.Path(file_okay=False, path_type=Path), help="Default: ./JOB")
@click.option("--force", is_flag=True, help="Replace files that are there and different.")
@talks_to_server
def download(client: Client, output: Output, job_id: str, *, folder: Path | None, force: bool) -> Exit:
    """Fetch all files of a job, verified.

    What is complete is left as it is, what was broken off is taken up again.  With --json one list of the paths.
    """
    with _bars(output) as report:
        paths = client.download(job_id, folder or Path(job_id), force=force, on_progress=report)
    if output.as_json:
        output.page([str(path) for path in paths])
    for path in paths:
        output.line(str(path))
    if not paths:
        output.complain(f"{job_id} has no files: `fewbits show {job_id}` says how far it is")
    return Exit.OK if paths else Exit.FAILED


@contextlib.contextmanager
def _bars(output: Output) -> Iterator[Callable[[ArtifactFile, int], None] | None]:
    """Give a callback that draws a bar for each file, or None where there is no terminal to draw on."""
    if output.as_json or not sys.stdout.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(file=sys.stdout)) as progress:
        tasks: dict[str, TaskID] = {}

        def report(file: ArtifactFile, done_bytes: int) -> None:
            name = file["name"]
            if name not in tasks:
                tasks[name] = progress.add_task(one_line(name), total=file["size_bytes"])
            progress.update(tasks[name], completed=done_bytes)

        yield report
