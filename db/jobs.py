"""Jobs as a team sees them: submit, retry, read, list, cancel."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, insert, or_, select, tuple_
from sqlalchemy.orm import Session, selectinload

from core.errors import Conflict, InvalidRequest, NotFound
from core.ids import JobId, TeamId, new_id
from db import events, flow, shown
from db.locks import lock_job, lock_sweep
from db.notify import WORK, notify
from db.shown import ShownJob
from db.states import JobStatus, StepStatus, is_terminal
from db.tables import Artifact, Attempt, Execution, Job, Step

DOCUMENTS = "documents"  # the format of what says how a result came about and what was found of it


@dataclass(frozen=True)
class PlannedStep:
    """A step as the plan wants it: its kind, its pool, the kinds it needs first, and its own parameters."""

    kind: str
    pool: str
    needs: tuple[str, ...]
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a job stands in a sweep."""

    sweep_id: str
    position: int


@dataclass(frozen=True)
class NewJob:
    """A validated request and its plan; ``warnings`` are told by the job's first events."""

    source: str
    method: str
    recipe: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    metadata: Mapping[str, str]
    priority: int
    max_runtime_seconds: int | None
    max_pending_seconds: int | None
    steps: tuple[PlannedStep, ...]
    labels: tuple[str, ...] = ()
    max_attempts: int | None = None
    wait_for_capacity: bool = False
    publish_to: str | None = None
    benchmark: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    gate: tuple[Mapping[str, Any], ...] = ()
    sweep: Place | None = None


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows; None means any."""

    status: str | None = None
    method: str | None = None
    created_after: dt.datetime | None = None
    label: str | None = None
    sweep: str | None = None


def submit(session: Session, team_id: TeamId, new: NewJob, retry_of: str | None = None) -> JobId:
    """Write a job and its steps. Nothing is enqueued: workers find what is ready."""
    job_id = JobId(new_id("job"))
    session.execute(insert(Job), {**_job_row(new), "id": job_id, "team_id": team_id, "retry_of": retry_of})
    steps = [_step_row(job_id, position, step) for position, step in enumerate(new.steps)]
    session.execute(insert(Step), steps)
    for pool in {step["pool"] for step in steps if step["status"] == StepStatus.READY}:
        notify(session, WORK, pool)
    events.record(session, job_id, "The job is queued.")
    for warning in new.warnings:
        events.record(session, job_id, warning, level="warn", kind="message")
    return job_id


def _job_row(new: NewJob) -> dict[str, Any]:
    return {
        "source": new.source,
        "method": new.method,
        "recipe": dict(new.recipe),
        "evaluation": dict(new.evaluation),
        "gate": [dict(condition) for condition in new.gate],
        "job_metadata": dict(new.metadata),
        "labels": list(new.labels),
        "priority": new.priority,
        "max_runtime_seconds": new.max_runtime_seconds,
        "max_pending_seconds": new.max_pending_seconds,
        "max_attempts": new.max_attempts,
        "wait_for_capacity": new.wait_for_capacity,
        "publish_to": new.publish_to,
        "sweep_id": new.sweep and new.sweep.sweep_id,
        "sweep_position": new.sweep and new.sweep.position,
        "benchmark": None if new.benchmark is None else dict(new.benchmark),
    }


def _step_row(job_id: JobId, position: int, planned: PlannedStep) -> dict[str, Any]:
    return {
        "id": new_id("step"),
        "job_id": job_id,
        "position": position,
        "kind": planned.kind,
        "pool": planned.pool,
        "needs": list(planned.needs),
        "params": dict(planned.params),
        "status": (StepStatus.WAITING if planned.needs else StepStatus.READY).value,
    }


def retry(session: Session, team_id: TeamId, job_id: str, plan_anew: Callable[[ShownJob], NewJob]) -> JobId:
    """Write a new job that asks again for what a job that is over has asked for; what had succeeded is reused.

    In the sweep of the old one it takes its place.

    Args:
        session: the caller's transaction.
        team_id: whose job it is.
        job_id: the job that is over; it stays as it is.
        plan_anew: makes the new job of the old one.

    Raises:
        NotFound: there is none of that id in this team.
        Conflict: it is not over yet, or another has its place in the sweep already.
    """
    job = get(session, team_id, job_id)
    if not is_terminal(JobStatus(job.status)):
        raise Conflict(
            f"The job is {job.status}: only one that is over can be retried. Wait for its end, or cancel it."
        )
    place = None if job.sweep_id is None or job.sweep_position is None else Place(job.sweep_id, job.sweep_position)
    if place is not None:
        lock_sweep(session, team_id, place.sweep_id)
        _require_newest(session, place, job.id)
    return submit(session, team_id, replace(plan_anew(job), sweep=place), retry_of=job.id)


def _require_newest(session: Session, place: Place, job_id: str) -> None:
    """Require that no later job has the place of one in its sweep, which the caller has locked."""
    at_place = select(Job.id).where(Job.sweep_id == place.sweep_id, Job.sweep_position == place.position)
    newest = session.scalar(at_place.order_by(Job.created_at.desc(), Job.id.desc()).limit(1))
    if newest != job_id:
        raise Conflict(f"In its sweep the job was retried already, as {newest}. Retry that one, once it is over.")


def get(session: Session, team_id: TeamId, job_id: str) -> ShownJob:
    """Return a job.

    Raises:
        NotFound: there is none of that id in this team.
    """
    found = shown.read(session, shown.jobs().where(Job.id == job_id, Job.team_id == team_id))
    if not found:
        raise NotFound(f"There is no job {job_id}.")
    return found[0]


def require(session: Session, team_id: TeamId, job_id: str) -> None:
    """Return if a job is there.

    Raises:
        NotFound: there is none of that id in this team.
    """
    if session.scalar(select(Job.id).where(Job.id == job_id, Job.team_id == team_id)) is None:
        raise NotFound(f"There is no job {job_id}.")


def list_page(
    session: Session, team_id: TeamId, wanted: JobFilter, after: str | None, limit: int
) -> tuple[Sequence[ShownJob], bool]:
    """Return up to ``limit`` jobs, newest first, that follow job ``after``, and whether there are more.

    Raises:
        InvalidRequest: ``after`` is no job of this team.
    """
    conditions: list[ColumnElement[bool]] = [Job.team_id == team_id]
    if wanted.status is not None:
        conditions.append(Job.status == wanted.status)
    if wanted.method is not None:
        conditions.append(Job.method == wanted.method)
    if wanted.created_after is not None:
        conditions.append(Job.created_at > wanted.created_after)
    if wanted.label is not None:
        conditions.append(Job.labels.contains([wanted.label]))
    if wanted.sweep is not None:
        conditions.append(Job.sweep_id == wanted.sweep)
    if after is not None:
        created_at = session.scalar(select(Job.created_at).where(Job.id == after, Job.team_id == team_id))
        if created_at is None:
            raise InvalidRequest(f"There is no job {after} to continue after.", param="after")
        conditions.append(tuple_(Job.created_at, Job.id) < (created_at, after))
    newest_first = shown.jobs().where(*conditions).order_by(Job.created_at.desc(), Job.id.desc())
    found = shown.read(session, newest_first.limit(limit + 1))
    return found[:limit], len(found) > limit


def request_cancel(session: Session, team_id: TeamId, job_id: str) -> None:
    """Cancel a job; a second request changes nothing.

    Raises:
        NotFound: there is none of that id in this team.
        Conflict: it has succeeded or failed already, or has begun what cannot be taken back, and completes.
    """
    require(session, team_id, job_id)
    job = lock_job(session, job_id)
    status = JobStatus(job.status)
    if status in (JobStatus.CANCELLED, JobStatus.CANCELLING):
        return
    if is_terminal(status):
        raise Conflict(f"The job has {status.value} already and cannot be cancelled.")
    if flow.is_beyond_recall(session, job.id):
        raise Conflict(
            f"The job has begun to publish its result to {job.publish_to}, which is not broken off: it completes, and "
            "cannot be cancelled any more."
        )
    flow.cancel(session, job.id)


def attempts(session: Session, team_id: TeamId, job_id: str) -> Sequence[tuple[Step, Attempt]]:
    """Return every attempt of the work of a job's steps, each with its step, by their start.

    Raises:
        NotFound: there is none of that id in this team.
    """
    require(session, team_id, job_id)
    statement = (
        select(Step, Attempt)
        .join(Attempt, Attempt.execution_id == Step.execution_id)
        .where(Step.job_id == job_id)
        .order_by(Attempt.started_at, Step.position, Attempt.number)
    )
    return [(row[0], row[1]) for row in session.execute(statement)]


def results(session: Session, team_id: TeamId, job_id: str) -> Sequence[Artifact]:
    """Return what a job has made for its team: the artifacts in the role ``result``, with their files.

    There are none before the job has succeeded: nothing is published that has not been verified and judged. Of a job
    that its gate has blocked there is only what says so.
    """
    statement = (
        select(Artifact)
        .join(Step, Step.execution_id == Artifact.execution_id)
        .join(Job, Job.id == Step.job_id)
        .where(Job.id == job_id, Job.team_id == team_id, Job.status == JobStatus.SUCCEEDED.value)
        .where(Artifact.role == "result", or_(Artifact.format == DOCUMENTS, ~_is_blocked(job_id)))
        .order_by(Step.position)
        .options(selectinload(Artifact.files))
    )
    return session.scalars(statement).all()


def _is_blocked(job_id: str) -> ColumnElement[bool]:
    decided = select(Step.id).join(Execution, Step.execution_id == Execution.id)
    return decided.where(Step.job_id == job_id, Execution.facts["verdict"].astext == "blocked").exists()
