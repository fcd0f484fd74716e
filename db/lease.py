"""What the holder of a lease may do: renew, finish, fail, stop, give back. Without its token it changes nothing."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.errors import ErrorDocument, ErrorKind
from db import artifacts, clock, events, flow
from db.artifacts import EvaluationRow, NewArtifact
from db.claim import charge
from db.locks import lock_execution
from db.notify import JOBS, WORK, notify
from db.states import LIVE_STEP, ExecutionStatus, StepStatus
from db.tables import Execution, Job, Step
from db.tokens import Lease, LeaseLost, is_held
from db.transition import transition, transition_one

FIT_ATTEMPTS_MAX = 2
BACKOFF_DOUBLINGS_MAX = 8


class LeaseState(enum.Enum):
    """What a renewal tells the holder."""

    HELD = enum.auto()
    STOP = enum.auto()  # nobody wants the work any more: kill the child, then say ``stopped``
    LOST = enum.auto()  # another holds it, or it is over: kill the child, say nothing


@dataclass(frozen=True)
class Retry:
    """How often work that went wrong is tried, and the wait before the second attempt, which then doubles."""

    attempts_max: int
    backoff_seconds: float


@dataclass(frozen=True)
class Result:
    """What a finished execution leaves: facts, and where there are any, an artifact, evaluations and warnings."""

    facts: Mapping[str, Any]
    artifact: NewArtifact | None = None
    evaluations: Sequence[EvaluationRow] = ()
    warnings: Sequence[str] = ()


def renew(session: Session, lease: Lease, lease_seconds: float, progress: Mapping[str, Any] | None) -> LeaseState:
    """Extend a lease, and record the progress where there is news."""
    values: dict[str, Any] = {"lease_expires_at": clock.after(lease_seconds)}
    if progress is not None:
        values["progress"] = dict(progress)
    row = session.execute(
        update(Execution).where(is_held(lease)).values(**values).returning(Execution.stop_requested_at)
    ).one_or_none()
    if row is None:
        return LeaseState.LOST
    if progress is not None:
        for job_id in session.scalars(select(Step.job_id).where(Step.execution_id == lease.execution_id)):
            notify(session, JOBS, job_id)
    return LeaseState.HELD if row.stop_requested_at is None else LeaseState.STOP


def finish(session: Session, lease: Lease, result: Result) -> None:
    """Commit a result: the artifact becomes visible, steps succeed, successors become ready, jobs may be over.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    execution, jobs = _hold(session, lease)
    if result.artifact is not None:
        artifacts.commit(session, execution, result.artifact)
    artifacts.commit_evaluations(session, execution, result.evaluations)
    _close(session, execution, ExecutionStatus.SUCCEEDED, facts=dict(result.facts), stop_requested_at=None)
    finished = _job_ids(transition(session, StepStatus.SUCCEEDED, _live_steps(execution)), session)
    for job in jobs:
        if job.id in finished:
            for warning in result.warnings:
                events.record(session, job.id, warning, level="warn", kind="message", step=execution.kind)
            message = f"{execution.kind.capitalize()} has succeeded."
            events.record(session, job.id, message, step=execution.kind)
            flow.advance(session, job)
    flow.settle_cancelled(session, jobs)


def fail(session: Session, lease: Lease, error: ErrorDocument, retry: Retry) -> None:
    """Record a failed attempt; the work is tried again, or it and the jobs that wait on it fail.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    execution, jobs = _hold(session, lease)
    fail_attempt(session, execution, jobs, error, retry)


def stopped(session: Session, lease: Lease) -> None:
    """Say that the child has been ended because a stop was asked for.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    execution, jobs = _hold(session, lease)
    _cancel(session, execution, jobs)


def release(session: Session, lease: Lease) -> None:
    """Give back an execution that a worker must leave, as when its node is drained; it does not count as a failure.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    execution, jobs = _hold(session, lease)
    if execution.stop_requested_at is not None:
        _cancel(session, execution, jobs)
        return
    _make_ready(session, execution, execution.failure_count, wait_seconds=0)
    for job in jobs:
        message = f"The worker is shutting down; {execution.kind} will start again elsewhere."
        events.record(session, job.id, message, level="warn", step=execution.kind)


def fail_attempt(
    session: Session, execution: Execution, jobs: Sequence[Job], error: ErrorDocument, retry: Retry
) -> None:
    """As ``fail``, for a caller that holds the locks already."""
    if execution.stop_requested_at is not None:
        _cancel(session, execution, jobs)
        return
    attempts = {ErrorKind.REQUEST: 1, ErrorKind.WORK: retry.attempts_max, ErrorKind.FIT: FIT_ATTEMPTS_MAX}
    failure_count = execution.failure_count + 1
    if failure_count < attempts[ErrorKind(error["kind"])]:
        doublings = min(failure_count - 1, BACKOFF_DOUBLINGS_MAX)
        wait_seconds = retry.backoff_seconds * 2**doublings
        for job in jobs:
            message = f"{execution.kind.capitalize()} will be tried again in {wait_seconds:g} s: {error['message']}"
            events.record(
                session,
                job.id,
                message,
                level="warn",
                step=execution.kind,
                attempt=execution.attempt,
                error=dict(error),
            )
        _make_ready(session, execution, failure_count, wait_seconds)
        return
    execution.failure_count = failure_count
    fail_for_good(session, execution, jobs, error)


def fail_for_good(session: Session, execution: Execution, jobs: Sequence[Job], error: ErrorDocument) -> None:
    """Fail an execution and the jobs that wait on it, for a caller that holds the locks already."""
    _close(session, execution, ExecutionStatus.FAILED, error=dict(error))
    failed = _job_ids(transition(session, StepStatus.FAILED, _live_steps(execution), error=dict(error)), session)
    for job in jobs:
        if job.id in failed:
            flow.fail(session, job, error)
    flow.settle_cancelled(session, jobs)


def _hold(session: Session, lease: Lease) -> tuple[Execution, Sequence[Job]]:
    execution, jobs = lock_execution(session, lease.execution_id)
    if execution.status != ExecutionStatus.RUNNING or execution.token != lease.token:
        raise LeaseLost
    return execution, jobs


def _cancel(session: Session, execution: Execution, jobs: Sequence[Job]) -> None:
    _close(session, execution, ExecutionStatus.CANCELLED)
    flow.settle_cancelled(session, jobs)


def _close(session: Session, execution: Execution, to: ExecutionStatus, **values: Any) -> None:
    _charge_run_time(session, execution)
    artifacts.drop_intents(session, execution.id)
    transition_one(session, to, execution.id, worker_id=None, lease_expires_at=None, **values)


def _make_ready(session: Session, execution: Execution, failure_count: int, wait_seconds: float) -> None:
    _charge_run_time(session, execution)
    transition_one(
        session,
        ExecutionStatus.READY,
        execution.id,
        worker_id=None,
        lease_expires_at=None,
        failure_count=failure_count,
        ready_at=clock.after(wait_seconds),
    )
    transition(session, StepStatus.READY, _live_steps(execution))
    notify(session, WORK, execution.pool)


def _charge_run_time(session: Session, execution: Execution) -> None:
    if execution.status != ExecutionStatus.RUNNING:
        return
    seconds = session.scalar(select(func.extract("epoch", clock.now() - execution.started_at)))
    charge(session, execution.team_id, execution.pool, float(seconds or 0))


def _live_steps(execution: Execution) -> Any:
    return (Step.execution_id == execution.id) & Step.status.in_([status.value for status in LIVE_STEP])


def _job_ids(step_ids: Sequence[str], session: Session) -> set[str]:
    return set(session.scalars(select(Step.job_id).where(Step.id.in_(step_ids))))
