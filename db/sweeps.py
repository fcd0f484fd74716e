"""Sweeps as a team sees them: submit, extend, read, list, cancel, and what their work has taken.

A sweep is the jobs that name it. A job that was retried has given its place to the newer one, and is not looked at any
more. Refuses to know: which result is the best.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Label, Select, func, insert, literal_column, select, text, tuple_
from sqlalchemy.orm import Session

from core.errors import Conflict, InvalidRequest, NotFound
from core.ids import SweepId, TeamId, new_id
from db import flow, jobs, shown
from db.jobs import NewJob, Place
from db.locks import lock_jobs, lock_sweep
from db.shown import ShownJob
from db.states import JobStatus, live
from db.tables import Job, Sweep


@dataclass(frozen=True)
class NewSweep:
    """A validated request.

    Attributes:
        source: where the model is.
        preset: by what name its recipes were asked for; None where they were listed.
        request: what each job is asked for beside its recipe, JSON-compatible.
        warnings: what is to be told of it.
    """

    source: str
    preset: str | None
    request: Mapping[str, Any]
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class ShownSweep:
    """A sweep, and how many of its jobs are in each status."""

    id: str
    source: str
    preset: str | None
    request: Mapping[str, Any]
    warnings: Sequence[str]
    created_at: dt.datetime
    job_counts: Mapping[str, int]

    @property
    def status(self) -> JobStatus:
        """Where its jobs are, taken together; over once all of them are."""
        there = {status for status, count in self.job_counts.items() if count}
        if there & {JobStatus.QUEUED.value, JobStatus.RUNNING.value}:
            return JobStatus.QUEUED if there == {JobStatus.QUEUED.value} else JobStatus.RUNNING
        gravest_first = (JobStatus.CANCELLING, JobStatus.FAILED, JobStatus.CANCELLED)
        return next((status for status in gravest_first if status.value in there), JobStatus.SUCCEEDED)


@dataclass(frozen=True)
class WorkShare:
    """How long workers of a pool have worked, for the job at one place of a sweep or, None, for several of them."""

    position: int | None
    pool: str
    seconds: float


_NEWEST = """
    SELECT DISTINCT ON (sweep_position) {columns} FROM jobs WHERE sweep_id = {sweep_id}
    ORDER BY sweep_position, created_at DESC, id DESC
"""
_COUNTS: Label[Any] = literal_column(f"""(
    SELECT coalesce(json_object_agg(status, count), '{{}}') FROM (
        SELECT status, count(*) AS count FROM ({_NEWEST.format(columns="status", sweep_id="sweeps.id")}) AS newest
        GROUP BY status
    ) AS counted
)""").label("job_counts")
_NEWEST_IDS = text(f"SELECT id FROM ({_NEWEST.format(columns='id', sweep_id=':sweep_id')}) AS newest")
# Work that was done before, for another sweep or job, is none of this one's; what a job of it has done counts once.
_WORK = text("""
    WITH mine AS (
        SELECT steps.execution_id, min(jobs.sweep_position) AS first, max(jobs.sweep_position) AS last
        FROM jobs JOIN steps ON steps.job_id = jobs.id
        WHERE jobs.sweep_id = :sweep_id AND steps.execution_id IS NOT NULL
        GROUP BY steps.execution_id HAVING bool_or(NOT steps.reused)
    )
    SELECT CASE WHEN first = last THEN first END AS position, executions.pool, CAST(sum(coalesce(
        (
            SELECT sum(extract(epoch FROM coalesce(ended_at, clock_timestamp()) - started_at))
            FROM attempts WHERE execution_id = executions.id
        ),
        extract(epoch FROM coalesce(executions.finished_at, clock_timestamp()) - executions.started_at),
        0
    )) AS double precision) AS seconds
    FROM mine JOIN executions ON executions.id = mine.execution_id
    GROUP BY 1, 2 ORDER BY 1, 2
""")


def submit(session: Session, team_id: TeamId, new: NewSweep, asked: Sequence[NewJob]) -> SweepId:
    """Write a sweep and its jobs, in their order."""
    sweep_id = SweepId(new_id("sweep"))
    row = {
        "id": sweep_id,
        "team_id": team_id,
        "source": new.source,
        "preset": new.preset,
        "request": dict(new.request),
        "warnings": list(new.warnings),
    }
    session.execute(insert(Sweep), row)
    _add(session, team_id, sweep_id, asked, first=0)
    return sweep_id


def extend(session: Session, team_id: TeamId, sweep_id: str, asked: Sequence[NewJob]) -> None:
    """Write further jobs of a sweep whose row is locked."""
    last = session.scalar(select(func.max(Job.sweep_position)).where(Job.sweep_id == sweep_id))
    _add(session, team_id, sweep_id, asked, first=0 if last is None else last + 1)


def _add(session: Session, team_id: TeamId, sweep_id: str, asked: Sequence[NewJob], *, first: int) -> None:
    for position, new in enumerate(asked, first):
        jobs.submit(session, team_id, replace(new, sweep=Place(sweep_id, position)))


def get(session: Session, team_id: TeamId, sweep_id: str) -> ShownSweep:
    """Return a sweep.

    Raises:
        NotFound: there is none of that id in this team.
    """
    row = session.execute(_shown().where(Sweep.id == sweep_id, Sweep.team_id == team_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"There is no sweep {sweep_id}.")
    return ShownSweep(**row)


def get_locked(session: Session, team_id: TeamId, sweep_id: str) -> ShownSweep:
    """Return a sweep to which no other transaction adds jobs before this one ends.

    Raises:
        NotFound: as ``get``.
    """
    lock_sweep(session, team_id, sweep_id)
    return get(session, team_id, sweep_id)


def jobs_of(session: Session, sweep_id: str) -> Sequence[ShownJob]:
    """Return the jobs of a sweep, each whole, in the order of its recipes."""
    newest = session.scalars(_NEWEST_IDS, {"sweep_id": sweep_id}).all()
    return shown.read(session, shown.jobs().where(Job.id.in_(newest)).order_by(Job.sweep_position))


def list_page(session: Session, team_id: TeamId, after: str | None, limit: int) -> tuple[Sequence[ShownSweep], bool]:
    """Return up to ``limit`` sweeps, newest first, that follow sweep ``after``, and whether there are more.

    Raises:
        InvalidRequest: ``after`` is no sweep of this team.
    """
    wanted = _shown().where(Sweep.team_id == team_id)
    if after is not None:
        created_at = session.scalar(select(Sweep.created_at).where(Sweep.id == after, Sweep.team_id == team_id))
        if created_at is None:
            raise InvalidRequest(f"There is no sweep {after} to continue after.", param="after")
        wanted = wanted.where(tuple_(Sweep.created_at, Sweep.id) < (created_at, after))
    newest_first = wanted.order_by(Sweep.created_at.desc(), Sweep.id.desc()).limit(limit + 1)
    found = [ShownSweep(**row) for row in session.execute(newest_first).mappings()]
    return found[:limit], len(found) > limit


def request_cancel(session: Session, team_id: TeamId, sweep_id: str) -> None:
    """Cancel what of a sweep is not over; a job that publishes already completes. A second request changes nothing.

    Raises:
        NotFound: there is none of that id in this team.
        Conflict: nothing of it can be cancelled any more.
    """
    get(session, team_id, sweep_id)
    unfinished = select(Job.id).where(Job.sweep_id == sweep_id, Job.status.in_(live(JobStatus)))
    found = lock_jobs(session, set(session.scalars(unfinished)))
    for job in found:
        if job.status in (JobStatus.QUEUED, JobStatus.RUNNING) and not flow.is_beyond_recall(session, job.id):
            flow.cancel(session, job.id)
    if not get(session, team_id, sweep_id).job_counts.keys() & {JobStatus.CANCELLING.value, JobStatus.CANCELLED.value}:
        raise Conflict(
            "Each job of the sweep is over, or has begun to publish its result and completes: nothing can be cancelled."
        )


def work(session: Session, sweep_id: str) -> Sequence[WorkShare]:
    """Return how long workers have worked for a sweep, all attempts counted, work for several of its jobs once."""
    return [WorkShare(**row) for row in session.execute(_WORK, {"sweep_id": sweep_id}).mappings()]


def _shown() -> Select[Any]:
    columns = (Sweep.id, Sweep.source, Sweep.preset, Sweep.request, Sweep.warnings, Sweep.created_at)
    return select(*columns, _COUNTS)
