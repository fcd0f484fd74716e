"""How an attempt ends, and what becomes of its execution and of the jobs on it. The caller holds the locks."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, TextClause, func, select, text, update
from sqlalchemy.orm import Session

from core.errors import ErrorDocument, ErrorKind, WorkerKiller
from db import events, flow
from db.locks import LiveJob
from db.notify import WORK, notify
from db.room import UNMEASURED, Need, Peaks
from db.states import LIVE_STEP, AttemptOutcome, ExecutionStatus, JobStatus, StepStatus, origins
from db.tables import Attempt, Execution, Step
from db.transition import WrongState, transition
from db.usage import CHARGE, USED_SECONDS
from db.workers import largest_room

FIT_ATTEMPTS_MAX = 2
FIT_GROWTH = 2  # how much more work that did not fit asks for, as far as one worker has it
BACKOFF_DOUBLINGS_MAX = 8
JITTER = 0.5  # so that what failed together does not come back together

# The attempt that ends with an update called ``ended``, and what is charged for it.
_NOTE = f"""
    before AS (
        SELECT id, status, {USED_SECONDS} AS seconds FROM executions WHERE id = :execution_id
    ), noted AS (
        UPDATE attempts
        SET ended_at = clock_timestamp(), outcome = :outcome, error = CAST(:error AS jsonb),
            peak_memory_bytes = :peak_memory_bytes, peak_vram_bytes = :peak_vram_bytes,
            peak_scratch_bytes = :peak_scratch_bytes
        FROM ended WHERE execution_id = ended.id AND number = ended.attempt AND outcome IS NULL
    ), charges AS (
        SELECT team_id, pool, before.seconds FROM ended JOIN before USING (id) WHERE before.status = 'running'
    ), charged AS ({CHARGE})
"""
_CLOSE = text(f"""
    WITH ended AS (
        UPDATE executions
        SET status = CAST(:status AS text), finished_at = clock_timestamp(), worker_id = NULL, lease_expires_at = NULL,
            reserved_by = NULL, reserved_device = NULL, facts = CAST(:facts AS jsonb),
            error = CASE CAST(:status AS text) WHEN 'failed' THEN CAST(:error AS jsonb) END,
            stop_requested_at = CASE CAST(:status AS text) WHEN 'cancelled' THEN stop_requested_at END,
            failure_count = failure_count + :failures, lost_count = lost_count + :deaths
        WHERE id = :execution_id AND status = ANY (CAST(:origins AS text[]))
        RETURNING id, team_id, pool, attempt
    ), unannounced AS (
        DELETE FROM blob_intents WHERE execution_id = :execution_id
    ), unpinned AS (
        DELETE FROM checkpoint_files WHERE execution_id = :execution_id
    ), {_NOTE}
    SELECT id FROM ended
""")
_REOPEN = text(f"""
    WITH ended AS (
        UPDATE executions
        SET status = 'ready', worker_id = NULL, lease_expires_at = NULL,
            ready_at = clock_timestamp() + make_interval(secs => :wait_seconds),
            failure_count = failure_count + :failures, lost_count = lost_count + :deaths
        WHERE id = :execution_id AND status = ANY (CAST(:origins AS text[]))
        RETURNING id, team_id, pool, attempt
    ), {_NOTE}
    SELECT id FROM ended
""")


@dataclass(frozen=True)
class Retry:
    """How often work is tried.

    Attributes:
        attempts_max: attempts of work that goes wrong, where no job that wants it says otherwise.
        backoff_seconds: the wait before the second attempt, give or take half; it doubles with each further one. After
            the loss of a worker there is none: the end of its lease was waited for.
        deaths_max: how many workers may die over one piece of work, until it is held to have killed them.
    """

    attempts_max: int
    backoff_seconds: float
    deaths_max: int = 3


@dataclass(frozen=True)
class Mishap:
    """Why an attempt failed: an error, whether its worker was lost with it, and what it had taken."""

    error: ErrorDocument
    is_death: bool = False
    peaks: Peaks = UNMEASURED


def succeed(session: Session, execution_id: str, facts: Mapping[str, Any], peaks: Peaks) -> None:
    """Close an execution that has done its work."""
    _end(
        session,
        _CLOSE,
        execution_id,
        ExecutionStatus.SUCCEEDED,
        AttemptOutcome.SUCCEEDED,
        facts=json.dumps(facts),
        **peaks.parameters(),
    )


def cancel(session: Session, execution_id: str, jobs: Sequence[LiveJob], peaks: Peaks = UNMEASURED) -> None:
    """Close an execution that nobody wants any more."""
    to, outcome = ExecutionStatus.CANCELLED, AttemptOutcome.CANCELLED
    _end(session, _CLOSE, execution_id, to, outcome, **peaks.parameters())
    flow.settle_cancelled(session, _cancelling(jobs))


def release(session: Session, execution: Execution, jobs: Sequence[LiveJob], peaks: Peaks) -> None:
    """Let an execution be claimed again at once; it has not failed."""
    message = f"The worker is shutting down; {execution.kind} will go on elsewhere."
    for job in _wanting(jobs):
        events.record(session, job.id, message, level="warn", step=execution.kind)
    _reopen(session, execution, AttemptOutcome.RELEASED, wait_seconds=0, **peaks.parameters())


def fail(session: Session, execution: Execution, jobs: Sequence[LiveJob], mishap: Mishap, retry: Retry) -> None:
    """Note a failed attempt; its work is tried again, or it and the jobs that wait on it fail."""
    if execution.stop_requested_at is not None:
        cancel(session, execution.id, jobs, mishap.peaks)
        return
    deaths = execution.lost_count + mishap.is_death
    wanting = _wanting(jobs)
    if deaths >= retry.deaths_max or _is_last(session, execution, wanting, mishap, retry):
        fail_for_good(session, execution, jobs, _last_word(execution, mishap, deaths, retry))
        return
    wait_seconds = 0.0 if mishap.is_death else _backoff_seconds(execution.failure_count, retry)
    error = mishap.error
    when = f"in {wait_seconds:.1f} s" if wait_seconds else "at once"
    message = f"{execution.kind.capitalize()} will be tried again {when}: {error['message']}"
    details: dict[str, Any] = {"step": execution.kind, "attempt": execution.attempt, "error": dict(error)}
    for job in wanting:
        events.record(session, job.id, message, level="warn", **details)
    if error["kind"] == ErrorKind.FIT:
        _grow(session, execution)
    _reopen(session, execution, _outcome(mishap), wait_seconds, **_counts(execution, mishap))


def fail_for_good(session: Session, execution: Execution, jobs: Sequence[LiveJob], mishap: Mishap) -> None:
    """Fail an execution and the jobs that wait on it."""
    _end(session, _CLOSE, execution.id, ExecutionStatus.FAILED, _outcome(mishap), **_counts(execution, mishap))
    on_it, error = _live_steps(execution), dict(mishap.error)
    for job_id in sorted(transition(session, StepStatus.FAILED, on_it, returning="job_id", error=error)):
        flow.fail(session, job_id, mishap.error)
    flow.settle_cancelled(session, _cancelling(jobs))


def _cancelling(jobs: Sequence[LiveJob]) -> list[str]:
    return [job.id for job in jobs if job.status == JobStatus.CANCELLING]


def _wanting(jobs: Sequence[LiveJob]) -> list[LiveJob]:
    return [job for job in jobs if job.status != JobStatus.CANCELLING]


def _is_last(session: Session, execution: Execution, wanting: Sequence[LiveJob], mishap: Mishap, retry: Retry) -> bool:
    """Return whether work is not tried again: it is as often as the most patient of the jobs that want it asks for."""
    attempts_max = max((job.max_attempts or retry.attempts_max for job in wanting), default=retry.attempts_max)
    if mishap.error["kind"] == ErrorKind.REQUEST or execution.failure_count + 1 >= attempts_max:
        return True
    return mishap.error["kind"] == ErrorKind.FIT and _misfit_count(session, execution) + 1 >= FIT_ATTEMPTS_MAX


def _misfit_count(session: Session, execution: Execution) -> int:
    ended = select(func.count()).where(Attempt.execution_id == execution.id)
    return session.scalar(ended.where(Attempt.error["kind"].astext == ErrorKind.FIT.value)) or 0


def _backoff_seconds(failure_count: int, retry: Retry) -> float:
    doublings = min(failure_count, BACKOFF_DOUBLINGS_MAX)
    return float(retry.backoff_seconds * 2**doublings * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311


def _grow(session: Session, execution: Execution) -> None:
    """Have work that did not fit ask for more, but not for more than the largest worker has that it fits now."""
    need = Need.of(execution)
    room = largest_room(session, execution.pool, need)
    if room is not None:
        more = asdict(room.grown(need, FIT_GROWTH))
        session.execute(update(Execution).where(Execution.id == execution.id).values(more))


def _last_word(execution: Execution, mishap: Mishap, deaths: int, retry: Retry) -> Mishap:
    """Return what the jobs are told in the end: the last error, and what all attempts together say."""
    error = mishap.error
    if deaths >= retry.deaths_max:
        error = WorkerKiller(execution.kind, deaths, error["message"]).document()
    elif error["kind"] == ErrorKind.FIT:
        need = Need.of(execution)
        measured = f" Measured at most: {mishap.peaks}." if mishap.peaks != UNMEASURED else ""
        said = f"{error['message']} The last attempt was given {need}.{measured}"
        error = ErrorDocument(**{**error, "message": said})
    return replace(mishap, error=error)


def _outcome(mishap: Mishap) -> AttemptOutcome:
    return AttemptOutcome.LOST if mishap.is_death else AttemptOutcome.FAILED


def _counts(execution: Execution, mishap: Mishap) -> dict[str, Any]:
    return {
        "error": json.dumps(mishap.error),
        "failures": int(execution.status == ExecutionStatus.RUNNING),  # what fits nowhere fails without an attempt
        "deaths": int(mishap.is_death),
        **mishap.peaks.parameters(),
    }


def _reopen(
    session: Session, execution: Execution, outcome: AttemptOutcome, wait_seconds: float, **values: Any
) -> None:
    to = ExecutionStatus.READY
    _end(session, _REOPEN, execution.id, to, outcome, wait_seconds=wait_seconds, **values)
    transition(session, StepStatus.READY, _live_steps(execution))
    notify(session, WORK, execution.pool)


def _end(
    session: Session,
    statement: TextClause,
    execution_id: str,
    to: ExecutionStatus,
    outcome: AttemptOutcome,
    **values: Any,
) -> None:
    known = {"facts": None, "error": None, "failures": 0, "deaths": 0, **UNMEASURED.parameters()}
    row = {"execution_id": execution_id, "status": to.value, "origins": origins(to), "outcome": outcome.value}
    if session.scalar(statement, {**known, **row, **values}) is None:
        raise WrongState(f"execution {execution_id} cannot become {to.value}")


def _live_steps(execution: Execution) -> ColumnElement[bool]:
    return (Step.execution_id == execution.id) & Step.status.in_([status.value for status in LIVE_STEP])
