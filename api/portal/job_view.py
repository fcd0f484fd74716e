"""All that the page of one job shows, read in one transaction."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api import responses, results
from api.portal.layer_chart import Chart, draw
from api.portal.own_texts import OwnText, own_texts
from api.presenting import artifact_object, attempt_object, job_object, step_object
from core.errors import VerificationFailed
from core.ids import TeamId
from db import clock, datasets, events, jobs, logs, metrics, waiting
from db.shown import ShownJob, ShownStep
from db.states import AttemptOutcome, JobStatus, StepStatus, is_terminal
from db.tables import LogChunk, Step

LOG_BYTES = 2**16
TROUBLE = {AttemptOutcome.FAILED, AttemptOutcome.LOST, AttemptOutcome.RELEASED}

# What is drawn by layer, the first at once: what people call it, and in which unit.
MEASURES: Mapping[str, tuple[str, float]] = {
    "loss": ("Loss", 1),
    "output_error": ("Error of outputs", 1),
    "weight_error": ("Error of weights", 1),
    "seconds": ("Seconds", 1),
    "memory_bytes": ("Memory in GB", 1e9),
    "vram_bytes": ("GPU memory in GB", 1e9),
}

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class StepView:
    """A step, with what its times say.

    Attributes:
        step: as the API shows it.
        seconds: how long it took, or has taken so far.
    """

    step: responses.Step
    seconds: float | None


@dataclass(frozen=True)
class LogPart:
    """What one attempt printed in one go."""

    step: str
    attempt: int
    text: str


@dataclass(frozen=True)
class JobView:
    """One job.

    Attributes:
        job: as the API shows it.
        is_over: whether nothing will change any more.
        now: by the database's clock.
        warnings: what was told when it was submitted.
        texts: the team's datasets that it looks at, or is judged on or by, by id.
        steps: its steps.
        attempts: those of the steps of which one went wrong, or was given back.
        artifacts: what it has made.
        charts: drawings of what was measured of each layer, by what it is called; see ``MEASURES``.
        log: the end of its log.
        event_count: the number of its last event.
    """

    job: responses.Job
    is_over: bool
    now: dt.datetime
    warnings: Sequence[str]
    texts: Mapping[str, OwnText]
    steps: Sequence[StepView]
    attempts: Sequence[responses.Attempt]
    artifacts: Sequence[responses.Artifact]
    charts: Mapping[str, Chart]
    log: Sequence[LogPart]
    event_count: int

    @property
    def running(self) -> list[StepView]:
        """The steps that run now."""
        return [one for one in self.steps if one.step.status is StepStatus.RUNNING]

    @property
    def checks(self) -> Sequence[results.Check]:
        """What verification looked at; empty before it has passed, and where it failed, which the error then tells."""
        return (self.job.result and self.job.result.verification) or []

    @property
    def verification(self) -> str:
        """Whether the result is what it must be, in a word: ``passed``, ``rejected`` or ``undecided``."""
        if self.job.error is not None and self.job.error.code == VerificationFailed.code:
            return "rejected"
        return "passed" if self.checks and self.job.status is JobStatus.SUCCEEDED else "undecided"


def view(session: Session, team_id: TeamId, job_id: str) -> JobView:
    """Return what is known of a job.

    Raises:
        NotFound: there is none of that id in this team.
    """
    job = jobs.get(session, team_id, job_id)
    now = session.scalars(select(clock.now())).one()
    return JobView(
        job=job_object(job, waiting.reasons(session, job)),
        is_over=is_terminal(JobStatus(job.status)),
        now=now,
        warnings=events.warnings_at_submit(session, job_id),
        texts=own_texts(session, team_id, _named_by(job)),
        steps=[_step_view(step, now) for step in job.steps],
        attempts=_of_troubled_steps([attempt_object(*row) for row in jobs.attempts(session, team_id, job_id)]),
        artifacts=[artifact_object(artifact) for artifact in jobs.results(session, team_id, job_id)],
        charts=_charts(session, job_id),
        log=_log(logs.tail(session, job_id, LOG_BYTES)),
        event_count=job.event_count,
    )


def _named_by(job: ShownJob) -> list[Any]:
    """Return all that is a dataset of the team, or may be."""
    return [job.recipe.get(datasets.FIELD), *job.evaluation["domains"], *job.evaluation.get("tasks", ())]


def readable(text: str) -> str:
    """Return what a terminal would show of a log: no colours, and of a line that was written over, its last state."""
    plain = _TERMINAL_CODES.sub("", text).replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in plain.split("\n"))


def _charts(session: Session, job_id: str) -> dict[str, Chart]:
    measured = metrics.latest(session, job_id)
    charts = {}
    for name, (called, unit) in MEASURES.items():
        chart = draw((layer, module, values[name] / unit) for layer, module, values in measured if name in values)
        if chart is not None:
            charts[called] = chart
    return charts


def _step_view(row: ShownStep, now: dt.datetime) -> StepView:
    step = step_object(row)
    seconds = None if step.started_at is None else ((step.finished_at or now) - step.started_at).total_seconds()
    return StepView(step, seconds)


def _of_troubled_steps(attempts: Sequence[responses.Attempt]) -> list[responses.Attempt]:
    troubled = {attempt.step for attempt in attempts if attempt.outcome in TROUBLE}
    return [attempt for attempt in attempts if attempt.step in troubled]


def _log(rows: Sequence[tuple[Step, LogChunk]]) -> list[LogPart]:
    parts = groupby(rows, key=lambda row: (row[0].kind, row[1].attempt))
    return [
        LogPart(step, attempt, readable("".join(chunk.text for _, chunk in chunks)))
        for (step, attempt), chunks in parts
    ]
