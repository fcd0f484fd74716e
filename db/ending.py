"""How an attempt ends, and what becomes of its execution and of the jobs on it. The caller holds the locks."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, TextClause, text
from sqlalchemy.orm import Session

from core.errors import ErrorDocument, ErrorKind, WorkerKiller
from db import events, flow
from db.locks import LiveJob
from db.notify import WORK, notify
from db.room import Need, gigabytes
from db.states import LIVE_STEP, AttemptOutcome, ExecutionStatus, JobStatus, StepStatus, origins
from db.tables import Execution, Step
from db.transition import WrongState, transition
from db.usage import CHARGE
from db.workers import LARGEST

FIT_ATTEMPTS_MAX = 2
FIT_GROWTH = 2  # how much more work that did not fit asks for, as far as there is a worker that has it
BACKOFF_DOUBLINGS_MAX = 8
JITTER = 0.5  # so that what failed together does not come back together

# The attempt that ends with an update called ``ended``, and what is charged for it.
_NOTE = f"""
    before AS (
        SELECT id, status, started_at FROM executions WHERE id = :execution_id
    ), noted AS (
        UPDATE attempts
        SET ended_at = clock_timestamp(), outcome = :outcome, error = CAST(:error AS jsonb),
            peak_memory_bytes = :peak_memory_bytes
        FROM ended WHERE execution_id = ended.id AND number = ended.attempt AND outcome IS NULL
    ), charges AS (
        SELECT team_id, pool, extract(epoch FROM clock_timestamp() - before.started_at) AS seconds
        FROM ended JOIN before USING (id) WHERE before.status = 'running'
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
_GROW = text(f"""
    WITH largest AS ({LARGEST})
    UPDATE executions
    SET memory_bytes
            = greatest(executions.memory_bytes, least(:growth * executions.memory_bytes, largest.memory_bytes)),
        vram_bytes = greatest(
            executions.vram_bytes, least(:growth * executions.vram_bytes, coalesce(largest.vram_bytes, 0))
        ),
        scratch_bytes
            = greatest(executions.scratch_bytes, least(:growth * executions.scratch_bytes, largest.scratch_bytes))
    FROM largest WHERE executions.id = :execution_id AND largest.pool = executions.pool
""")


@dataclass(frozen=True)
class Retry:
    """How often work is tried.

    Attributes:
        attempts_max: attempts of work that goes wrong, where no job that wants it says otherwise.
        backoff_seconds: the wait before the second attempt, give or take half; it doubles with each further one.
        deaths_max: how many workers may die over one piece of work, until it is held to have killed them.
    """

    attempts_max: int
    backoff_seconds: float
    deaths_max: int = 3


@dataclass(frozen=True)
class Mishap:
    """Why an attempt failed: an error, whether its worker was lost with it, and the memory it had taken."""

    error: ErrorDocument
    is_death: bool = False
    peak_memory_bytes: int | None = None


def succeed(session: Session, execution_id: str, facts: Mapping[str, Any], peak_memory_bytes: int | None) -> None:
    """Close an execution that has done its work."""
    _end(
        session,
        _CLOSE,
        execution_id,
        ExecutionStatus.SUCCEEDED,
        AttemptOutcome.SUCCEEDED,
        facts=json.dumps(facts),
        peak_memory_bytes=peak_memory_bytes,
    )


def cancel(session: Session, execution_id: str, jobs: Sequence[LiveJob]) -> None:
    """Close an execution that nobody wants any more."""
    _end(session, _CLOSE, execution_id, ExecutionStatus.CANCELLED, AttemptOutcome.CANCELLED)
    flow.settle_cancelled(session, _cancelling(jobs))


def release(session: Session, execution: Execution, jobs: Sequence[LiveJob]) -> None:
    """Let an execution be claimed again at once; it has not failed."""
    for job in jobs:
        message = f"The worker is shutting down; {execution.kind} will go on elsewhere."
        events.record(session, job.id, message, level="warn", step=execution.kind)
    _reopen(session, execution, AttemptOutcome.RELEASED, wait_seconds=0)


def fail(session: Session, execution: Execution, jobs: Sequence[LiveJob], mishap: Mishap, retry: Retry) -> None:
    """Note a failed attempt; its work is tried again, or it and the jobs that wait on it fail."""
    if execution.stop_requested_at is not None:
        cancel(session, execution.id, jobs)
        return
    failures, deaths = execution.failure_count + 1, execution.lost_count + mishap.is_death
    if deaths >= retry.deaths_max or failures >= _attempts_max(jobs, mishap, retry):
        fail_for_good(session, execution, jobs, _last_word(execution, mishap, deaths, retry))
        return
    doublings = min(failures - 1, BACKOFF_DOUBLINGS_MAX)
    wait_seconds = retry.backoff_seconds * 2**doublings * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    error = mishap.error
    message = f"{execution.kind.capitalize()} will be tried again in {wait_seconds:.1f} s: {error['message']}"
    details: dict[str, Any] = {"step": execution.kind, "attempt": execution.attempt, "error": dict(error)}
    for job in jobs:
        events.record(session, job.id, message, level="warn", **details)
    if error["kind"] == ErrorKind.FIT:
        session.execute(_GROW, {"execution_id": execution.id, "growth": FIT_GROWTH})
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


def _attempts_max(jobs: Sequence[LiveJob], mishap: Mishap, retry: Retry) -> int:
    """Return how often the work may be tried: as often as the most patient of its jobs wants."""
    wanted = max((job.max_attempts or retry.attempts_max for job in jobs), default=retry.attempts_max)
    by_kind = {ErrorKind.REQUEST: 1, ErrorKind.WORK: wanted, ErrorKind.FIT: FIT_ATTEMPTS_MAX}
    return by_kind[ErrorKind(mishap.error["kind"])]


def _last_word(execution: Execution, mishap: Mishap, deaths: int, retry: Retry) -> Mishap:
    """Return what the jobs are told in the end: the last error, and what all attempts together say."""
    error = mishap.error
    if deaths >= retry.deaths_max:
        error = WorkerKiller(execution.kind, deaths, error["message"]).document()
    elif error["kind"] == ErrorKind.FIT:
        need = Need(execution.memory_bytes, execution.vram_bytes, execution.scratch_bytes)
        peak = mishap.peak_memory_bytes
        measured = "" if peak is None else f" Its process had taken {gigabytes(peak)} of memory at most."
        said = f"{error['message']} The last attempt was given {need}.{measured}"
        error = ErrorDocument(**{**error, "message": said})
    return Mishap(error, mishap.is_death, mishap.peak_memory_bytes)


def _outcome(mishap: Mishap) -> AttemptOutcome:
    return AttemptOutcome.LOST if mishap.is_death else AttemptOutcome.FAILED


def _counts(execution: Execution, mishap: Mishap) -> dict[str, Any]:
    return {
        "error": json.dumps(mishap.error),
        "failures": int(execution.status == ExecutionStatus.RUNNING),  # what fits nowhere fails without an attempt
        "deaths": int(mishap.is_death),
        "peak_memory_bytes": mishap.peak_memory_bytes,
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
    known = {"facts": None, "error": None, "peak_memory_bytes": None, "failures": 0, "deaths": 0}
    row = {"execution_id": execution_id, "status": to.value, "origins": origins(to), "outcome": outcome.value}
    if session.scalar(statement, {**known, **row, **values}) is None:
        raise WrongState(f"execution {execution_id} cannot become {to.value}")


def _live_steps(execution: Execution) -> ColumnElement[bool]:
    return (Step.execution_id == execution.id) & Step.status.in_([status.value for status in LIVE_STEP])
