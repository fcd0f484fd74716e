"""Executions that nobody works on: their worker has fallen silent, or no worker is large enough for them."""

from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core.errors import DoesNotFit, WorkerLost
from db import ending, watch
from db.ending import Mishap, Retry
from db.locks import lock_execution
from db.room import Need, fits
from db.states import ExecutionStatus
from db.tables import Execution
from db.workers import IS_LIVE, ROOMS


def expired(session: Session) -> Sequence[str]:
    """Return the executions whose lease is over."""
    statement = select(Execution.id).where(Execution.status == ExecutionStatus.RUNNING.value, watch.is_over())
    return session.scalars(statement.order_by(Execution.lease_expires_at)).all()


def expire(session: Session, execution_id: str, retry: Retry) -> bool:
    """Take an execution from a silent worker; return whether its lease was still over once it was locked."""
    execution, jobs = lock_execution(session, execution_id)
    silent = session.scalar(
        select(Execution.id).where(
            Execution.id == execution_id, Execution.status == ExecutionStatus.RUNNING.value, watch.is_over()
        )
    )
    if silent is None:
        return False
    error = WorkerLost(f"The worker that ran {execution.kind} has not been heard of since its lease ran out.")
    ending.fail(session, execution, jobs, Mishap(error.document(), is_death=True), retry)
    return True


_MISFITS = text(f"""
    WITH rooms AS MATERIALIZED ({ROOMS}), too_large AS MATERIALIZED (
        SELECT id FROM executions
        WHERE status = 'ready' AND pool = ANY (ARRAY(SELECT pool FROM rooms))
          AND ready_at < clock_timestamp() - make_interval(secs => :patience_seconds)
          AND NOT EXISTS (SELECT FROM rooms WHERE rooms.pool = executions.pool AND {fits("rooms.")})
    )
    SELECT id FROM too_large WHERE NOT coalesce((
        SELECT bool_or(jobs.wait_for_capacity) FROM steps JOIN jobs ON jobs.id = steps.job_id
        WHERE steps.execution_id = too_large.id AND steps.status = 'ready'
    ), false)
""")


def misfits(session: Session, patience_seconds: float) -> Sequence[str]:
    """Return the executions that have been ready for a while and need more than any live worker of their pool has.

    A pool without a live worker has no misfits: one may come. Nor is one whose job said that it waits for one.
    """
    return session.scalars(_MISFITS, {"patience_seconds": patience_seconds}).all()


def give_up(session: Session, execution_id: str) -> bool:
    """Fail an execution that fits no worker, with the forecast; return whether it was still waiting."""
    execution, jobs = lock_execution(session, execution_id)
    if execution.status != ExecutionStatus.READY:
        return False
    need = Need.of(execution)
    error = DoesNotFit(
        f"{execution.kind.capitalize()} needs {need}, which no {execution.pool} worker has. Ask your operator for a "
        "larger worker, or choose a smaller model or, where a recipe has them, fewer samples."
    )
    ending.fail_for_good(session, execution, jobs, Mishap(error.document()))
    return True


_DROP_RESERVATIONS = text(f"""
    UPDATE executions SET reserved_by = NULL, reserved_device = NULL WHERE id = ANY (ARRAY(
        SELECT executions.id FROM executions JOIN workers ON workers.id = executions.reserved_by
        WHERE NOT ({IS_LIVE}) OR workers.drained_at IS NOT NULL
        FOR UPDATE OF executions SKIP LOCKED
    )) RETURNING id
""")


def drop_reservations(session: Session) -> int:
    """Take back the reservations of workers that claim nothing more, and return how many."""
    return len(session.scalars(_DROP_RESERVATIONS).all())
