"""How the work on jobs is shown while it goes on: bars on a terminal, lines in a pipe, JSON for a program."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from fewbits_client.cli.output import Output
from fewbits_client.cli.wording import clock, completed, one_line, outcome
from fewbits_client.objects import Event, Job, Step
from fewbits_client.stream import Done, Happened, Update, Updated


class Display(contextlib.AbstractContextManager["Display"], Protocol):
    """Is told of each update while it is entered."""

    def show(self, job_id: str, update: Update) -> None:
        """Show one update of one job."""


class Silence(contextlib.AbstractContextManager["Silence"]):
    """Shows nothing."""

    def __exit__(self, *_: object) -> None:
        """Leave."""

    def show(self, job_id: str, update: Update) -> None:
        """Show nothing of it."""


class JsonLines(contextlib.AbstractContextManager["JsonLines"]):
    """Writes one JSON object a line: events and jobs as the API gives them, progress as ``job.progress``."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __exit__(self, *_: object) -> None:
        """Leave."""

    def show(self, job_id: str, update: Update) -> None:
        """Write one update."""
        match update:
            case Happened(event):
                self._output.document({**event, "job_id": job_id})
            case Updated(steps):
                self._output.document({"object": "job.progress", "job_id": job_id, "steps": steps})
            case Done(job):
                self._output.document(job)


class Lines(contextlib.AbstractContextManager["Lines"]):
    """Writes one plain line for each event that a reader of a log wants, flushed.

    Args:
        recipes: each job's recipe in its short form, by the job's id.
    """

    def __init__(self, recipes: Mapping[str, str]) -> None:
        self._recipes = recipes

    def __exit__(self, *_: object) -> None:
        """Leave."""

    def show(self, job_id: str, update: Update) -> None:
        """Write a line, or nothing for mere progress."""
        recipe = self._recipes[job_id]
        match update:
            case Happened(event) if event["type"] != "metrics":
                click.echo(one_line(f"{event['created_at']} {job_id} {recipe} {_said(event)}"))
            case Done(job):
                click.echo(one_line(f"{job['finished_at']} {job_id} {recipe} {outcome(job)}"))


class Bars(contextlib.AbstractContextManager["Bars"]):
    """Draws one bar for each job, and prints warnings and outcomes above them.

    Args:
        recipes: each job's recipe in its short form, by the job's id.
    """

    def __init__(self, recipes: Mapping[str, str]) -> None:
        self._recipes = recipes
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[doing]}", markup=False),
            console=Console(file=sys.stdout),
        )
        self._tasks: dict[str, TaskID] = {
            job_id: self._progress.add_task(one_line(recipe), total=None, doing="queued")
            for job_id, recipe in recipes.items()
        }

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they stand."""
        self._progress.stop()

    def show(self, job_id: str, update: Update) -> None:
        """Move a job's bar."""
        task = self._tasks[job_id]
        match update:
            case Happened(event) if event["level"] != "info":
                self._print(f"{self._recipes[job_id]}: {_said(event)}")
            case Updated(steps):
                self._progress.update(task, total=len(steps), completed=completed(steps), doing=_doing(steps))
            case Done(job):
                self._finish(task, job)

    def _finish(self, task: TaskID, job: Job) -> None:
        total = len(job["steps"]) or 1
        self._progress.update(task, total=total, completed=completed(job["steps"]), doing=job["status"])
        self._progress.stop_task(task)
        self._print(f"{job['recipe']}: {outcome(job)}")

    def _print(self, text: str) -> None:
        self._progress.console.print(Text(one_line(text)))


def display_for(output: Output, jobs: Sequence[Job], *, json_lines: bool = False) -> Display:
    """Return what shows these jobs on this stdout.

    Args:
        output: what the command was asked for.
        jobs: the jobs that will be shown.
        json_lines: with JSON, write each update instead of keeping silent for one document at the end.
    """
    if output.as_json:
        return JsonLines(output) if json_lines else Silence()
    recipes = {job["id"]: job["recipe"] for job in jobs}
    return Bars(recipes) if sys.stdout.isatty() else Lines(recipes)


def _said(event: Event) -> str:
    return event["message"] if event["level"] == "info" else f"{event['level']}: {event['message']}"


def _doing(steps: Sequence[Step]) -> str:
    """Return what the job does now, in a few words."""
    for step in steps:
        if step["status"] == "running":
            return one_line(f"{step['kind']} {_amount(step['progress'])}")
    waiting = [step["kind"] for step in steps if step["status"] == "ready"]
    return f"{one_line(waiting[0])} waits for a free slot" if waiting else ""


def _amount(progress: Any) -> str:
    if not progress:
        return ""
    done, total = progress.get("done"), progress.get("total")
    count = f"{done:g}/{total:g} {progress.get('unit') or ''}" if total else ""
    left = progress.get("seconds_left")
    count += "" if left is None else f", {clock(left)} left"
    return f"{count} {progress.get('message') or ''}"
