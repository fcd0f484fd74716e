"""What the holder of a lease may do: keep, finish, fail, stop, give back. Without its token it changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.manifest import StoredFile
from core.steps import EvaluationRow
from db import artifacts, ending, events, flow
from db.artifacts import NewArtifact
from db.ending import Mishap, Retry
from db.locks import LiveJob, lock_execution
from db.room import UNMEASURED, Peaks
from db.states import LIVE_STEP
from db.tables import Execution, Step
from db.tokens import Lease, hold, require


@dataclass(frozen=True)
class Result:
    """What a finished execution leaves: facts, what it took, and perhaps an artifact, evaluations and warnings."""

    facts: Mapping[str, Any]
    artifact: NewArtifact | None = None
    evaluations: Sequence[EvaluationRow] = ()
    warnings: Sequence[str] = ()
    peaks: Peaks = UNMEASURED


def finish(session: Session, lease: Lease, result: Result) -> None:
    """Commit a result: the artifact becomes visible, steps succeed, successors become ready, jobs may be over.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    held = hold(session, lease)
    if result.artifact is not None:
        artifacts.commit(session, held.team_id, lease, result.artifact)
    if result.evaluations:
        artifacts.commit_evaluations(session, lease, result.evaluations)
    if result.warnings:
        _warn(session, lease, held.kind, result.warnings)
    message = f"{held.kind.capitalize()} has succeeded."
    cancelling = flow.succeed(session, lease.execution_id, message, {"step": held.kind})
    ending.succeed(session, lease.execution_id, result.facts, result.peaks)
    flow.settle_cancelled(session, cancelling)


def _warn(session: Session, lease: Lease, kind: str, warnings: Sequence[str]) -> None:
    on_it = Step.execution_id == lease.execution_id
    live = Step.status.in_([status.value for status in LIVE_STEP])
    for job_id in session.scalars(select(Step.job_id).where(on_it, live).order_by(Step.job_id)).all():
        for warning in warnings:
            events.record(session, job_id, warning, level="warn", kind="message", step=kind)


def fail(session: Session, lease: Lease, mishap: Mishap, retry: Retry) -> None:
    """Record a failed attempt; the work is tried again, or it and the jobs that wait on it fail.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    execution, jobs = _lock(session, lease)
    ending.fail(session, execution, jobs, mishap, retry)


def stopped(session: Session, lease: Lease, peaks: Peaks = UNMEASURED) -> None:
    """Say that the child has been ended because a stop was asked for, and what it had taken.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    execution, jobs = _lock(session, lease)
    ending.cancel(session, execution.id, jobs, peaks)


def keep(session: Session, lease: Lease, checkpoint: Sequence[StoredFile]) -> None:
    """Keep files, in the store already, from which the execution can go on, in place of those that were kept before.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    require(session, lease)
    artifacts.keep_checkpoint(session, lease, checkpoint)


def release(session: Session, lease: Lease, peaks: Peaks = UNMEASURED) -> None:
    """Give back an execution that a worker must leave, as when its node is drained; it does not count as a failure.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    execution, jobs = _lock(session, lease)
    if execution.stop_requested_at is not None:
        ending.cancel(session, execution.id, jobs, peaks)
        return
    ending.release(session, execution, jobs, peaks)


def _lock(session: Session, lease: Lease) -> tuple[Execution, Sequence[LiveJob]]:
    """Lock all that an end may touch: other executions, too, since a job that fails lets go of them."""
    execution, jobs = lock_execution(session, lease.execution_id)
    hold(session, lease)
    return execution, jobs
