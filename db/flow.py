"""How a job moves on: what starts, what becomes ready, what is let go, when it is over. The caller holds the locks.

What happens with every execution is one statement each, since a statement costs more than the rows it changes; the
statuses from which they may move rows come from the one table all the same.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from core.errors import ErrorDocument
from db import clock, events
from db.locks import live_executions
from db.notify import JOBS, WORK
from db.states import LIVE_STEP, ExecutionStatus, JobStatus, StepStatus, live, origins
from db.tables import CheckpointFile, Execution, Job, Step
from db.tables.base import sql_list
from db.transition import transition, transition_one

# A queued job starts with its first step, so it has two events to tell then.
_BEGIN = text(f"""
    WITH waiting AS (
        SELECT id, status = 'queued' AS is_new FROM jobs
        WHERE id IN (SELECT job_id FROM steps WHERE execution_id = :execution_id AND status = 'ready')
          AND status IN ('running', {sql_list(origins(JobStatus.RUNNING))})
        ORDER BY id FOR UPDATE
    ), moved AS (
        UPDATE steps SET status = 'running', started_at = coalesce(started_at, clock_timestamp())
        FROM waiting
        WHERE steps.job_id = waiting.id AND steps.execution_id = :execution_id
          AND steps.status IN ({sql_list(origins(StepStatus.RUNNING))})
        RETURNING steps.job_id
    ), told AS (
        UPDATE jobs
        SET status = 'running', started_at = coalesce(started_at, clock_timestamp()),
            event_count = event_count + 1 + CAST(is_new AS integer)
        FROM waiting JOIN moved ON moved.job_id = waiting.id
        WHERE jobs.id = waiting.id AND jobs.status IN ('running', {sql_list(origins(JobStatus.RUNNING))})
        RETURNING jobs.id, event_count, is_new
    ), recorded AS (
        INSERT INTO events (job_id, number, level, type, message, data)
        SELECT id, event_count - 1, 'info', 'state', 'The job has started.', '{{}}' FROM told WHERE is_new
        UNION ALL
        SELECT id, event_count, 'info', 'state', :message, CAST(:data AS jsonb) FROM told
    )
    SELECT count(pg_notify(:channel, id)) FROM told
""")

# What is done in this statement is not seen by its other parts, so they count the steps of ``done`` as succeeded. The
# news is told only if it is read: it comes first, and beside it the jobs that are being cancelled, or nothing.
_SUCCEED = text(f"""
    WITH waiting AS (
        SELECT id, status FROM jobs
        WHERE id IN (SELECT job_id FROM steps WHERE execution_id = :execution_id)
          AND status IN ({sql_list(live(JobStatus))})
        ORDER BY id FOR UPDATE
    ), done AS (
        UPDATE steps SET status = 'succeeded', finished_at = clock_timestamp(), reused = :reused
        FROM waiting
        WHERE steps.job_id = waiting.id AND steps.execution_id = :execution_id
          AND steps.status IN ({sql_list(origins(StepStatus.SUCCEEDED))})
        RETURNING steps.id, steps.job_id
    ), mine AS (
        SELECT job_id AS id, NOT EXISTS (
            SELECT FROM steps WHERE steps.job_id = done.job_id AND steps.id <> done.id AND steps.status <> 'succeeded'
        ) AS is_over
        FROM done
    ), unblocked AS (
        UPDATE steps SET status = 'ready'
        FROM done
        WHERE steps.job_id = done.job_id AND steps.status = 'waiting' AND NOT EXISTS (
            SELECT FROM steps AS needed
            WHERE needed.job_id = steps.job_id AND needed.kind = ANY (steps.needs)
              AND needed.status <> 'succeeded' AND needed.id <> done.id
        )
        RETURNING steps.pool
    ), told AS (
        UPDATE jobs
        SET event_count = event_count + 1 + CAST(is_over AS integer),
            status = CASE WHEN is_over THEN 'succeeded' ELSE status END,
            finished_at = CASE WHEN is_over THEN clock_timestamp() END
        FROM mine
        WHERE jobs.id = mine.id AND jobs.status IN ({sql_list(origins(JobStatus.SUCCEEDED))})
        RETURNING jobs.id, event_count, is_over
    ), recorded AS (
        INSERT INTO events (job_id, number, level, type, message, data)
        SELECT id, event_count - CAST(is_over AS integer), 'info', 'state', :message, CAST(:data AS jsonb) FROM told
        UNION ALL
        SELECT id, event_count, 'info', 'state', 'The job has succeeded.', '{{}}' FROM told WHERE is_over
    ), news AS (
        SELECT count(pg_notify(channel, payload)) AS count FROM (
            SELECT :jobs AS channel, id AS payload FROM told UNION ALL SELECT DISTINCT :work, pool FROM unblocked
        ) AS news
    )
    SELECT waiting.id FROM news LEFT JOIN waiting ON waiting.status = 'cancelling'
""")

_SET_ORDER = text(f"""
    UPDATE executions SET priority = first.priority, queued_at = first.queued_at
    FROM (
        SELECT max(jobs.priority) AS priority, min(jobs.created_at) AS queued_at
        FROM steps JOIN jobs ON jobs.id = steps.job_id
        WHERE steps.execution_id = :execution_id AND steps.status IN ({sql_list([*LIVE_STEP])})
    ) AS first
    WHERE executions.id = :execution_id
""")


def begin(session: Session, execution_id: str, message: str, data: Mapping[str, Any]) -> None:
    """Let the steps that wait on an execution run, and their jobs, and tell each job so.

    Args:
        session: the caller's transaction.
        execution_id: its row is locked.
        message: what each job is told.
        data: the event's details.
    """
    wanted = {"execution_id": execution_id, "message": message, "data": json.dumps(data), "channel": JOBS}
    session.execute(_BEGIN, wanted)


def start(session: Session, job_id: str) -> None:
    """Let a queued job run of which no step has to; one that runs already stays as it is."""
    if transition(session, JobStatus.RUNNING, Job.id == job_id, started_at=clock.now()):
        events.record(session, job_id, "The job has started.")


def succeed(
    session: Session, execution_id: str, message: str, data: Mapping[str, Any], *, reused: bool = False
) -> Sequence[str]:
    """Let the steps that wait on an execution succeed, make ready what waited for them, finish each job that is done.

    Args:
        session: the caller's transaction.
        execution_id: its row is locked, and it is succeeding or has succeeded.
        message: what each job is told.
        data: the event's details.
        reused: whether the work had been done before the steps wanted it.

    Returns:
        the jobs with a step on it that are being cancelled, for ``settle_cancelled`` once it is over.
    """
    wanted = {
        "execution_id": execution_id,
        "message": message,
        "data": json.dumps(data),
        "reused": reused,
        "jobs": JOBS,
        "work": WORK,
    }
    return [job_id for job_id in session.scalars(_SUCCEED, wanted) if job_id is not None]


def fail(session: Session, job_id: str, error: ErrorDocument) -> None:
    """End a job with an error; what it still waited on is let go."""
    let_go(session, job_id, StepStatus.SKIPPED)
    transition_one(session, JobStatus.FAILED, job_id, error=error)
    events.record(session, job_id, f"The job has failed: {error['message']}", level="error", error=dict(error))


def let_go(session: Session, job_id: str, to: StepStatus) -> None:
    """Move a job's unfinished steps to ``to``; stop the executions that no other job waits on."""
    executions = live_executions(session, [job_id])
    transition(session, to, Step.job_id == job_id)
    wanted = _wanted(session, executions)
    unwanted = executions - wanted
    cancelled = transition(
        session,
        ExecutionStatus.CANCELLED,
        Execution.id.in_(unwanted) & (Execution.status == ExecutionStatus.READY.value),
        reserved_by=None,
        reserved_device=None,
    )
    session.execute(delete(CheckpointFile).where(CheckpointFile.execution_id.in_(cancelled)))
    session.execute(
        update(Execution)
        .where(Execution.id.in_(unwanted), Execution.status == ExecutionStatus.RUNNING.value)
        .values(stop_requested_at=func.coalesce(Execution.stop_requested_at, clock.now()))
    )
    for execution_id in wanted:
        set_order(session, execution_id)


def settle_cancelled(session: Session, cancelling: Iterable[str]) -> None:
    """Finish those of some jobs that are being cancelled which have no child left to stop."""
    for job_id in cancelling:
        if not _stopping(session, job_id):
            transition_one(session, JobStatus.CANCELLED, job_id)
            events.record(session, job_id, "The job is cancelled.")


def cancel(session: Session, job_id: str) -> None:
    """Let go of everything; the job is cancelled once the last child that worked for it alone has ended."""
    let_go(session, job_id, StepStatus.CANCELLED)
    if _stopping(session, job_id):
        transition_one(session, JobStatus.CANCELLING, job_id)
        events.record(session, job_id, "Cancel was asked for; the running step is being stopped.")
    else:
        transition_one(session, JobStatus.CANCELLED, job_id)
        events.record(session, job_id, "The job is cancelled.")


def is_beyond_recall(session: Session, job_id: str) -> bool:
    """Return whether a job has begun, in this attempt or an earlier one, what others see and cannot be taken back."""
    begun = (
        select(Execution.id)
        .join(Step, Step.execution_id == Execution.id)
        .where(Step.job_id == job_id, Step.status.in_(LIVE_STEP), Execution.is_external, Execution.attempt > 0)
    )
    return session.scalars(begun.limit(1)).first() is not None


def set_order(session: Session, execution_id: str) -> None:
    """Give an execution the highest priority, and the age of the oldest, of the jobs that wait on it."""
    session.execute(_SET_ORDER, {"execution_id": execution_id})


def _wanted(session: Session, executions: Iterable[str]) -> set[str]:
    statement = select(Step.execution_id).where(Step.execution_id.in_(executions), Step.status.in_(LIVE_STEP))
    return {execution_id for execution_id in session.scalars(statement) if execution_id is not None}


def _stopping(session: Session, job_id: str) -> bool:
    statement = (
        select(Execution.id)
        .join(Step, Step.execution_id == Execution.id)
        .where(
            Step.job_id == job_id,
            Execution.status == ExecutionStatus.RUNNING.value,
            Execution.stop_requested_at.is_not(None),
        )
    )
    return session.scalars(statement.limit(1)).first() is not None
