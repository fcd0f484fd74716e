"""Executions that nobody works on: their worker has fallen silent, or no worker is large enough for them."""

from collections.abc import Sequence

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from core.errors import DoesNotFit, WorkerLost
from db import clock, ending, watch
from db.ending import Mishap, Retry
from db.locks import lock_execution
from db.room import Need, fits
from db.states import ExecutionStatus
from db.tables import Execution, Worker
from db.workers import LARGEST, is_live


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
    WITH largest AS ({LARGEST})
    SELECT executions.id FROM executions JOIN largest USING (pool)
    WHERE executions.status = 'ready'
      AND executions.ready_at < clock_timestamp() - make_interval(secs => :patience_seconds)
      AND NOT {fits("largest.")}
      AND NOT EXISTS (
        SELECT FROM steps JOIN jobs ON jobs.id = steps.job_id
        WHERE steps.execution_id = executions.id AND steps.status = 'ready' AND jobs.wait_for_capacity
      )
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
    need = Need(execution.memory_bytes, execution.vram_bytes, execution.scratch_bytes)
    error = DoesNotFit(
        f"{execution.kind.capitalize()} needs {need}, which no {execution.pool} worker has. Ask your operator for a "
        "larger worker, or choose a smaller model or, where a recipe has them, fewer samples."
    )
    ending.fail_for_good(session, execution, jobs, Mishap(error.document()))
    return True


def drop_reservations(session: Session) -> int:
    """Take back the reservations of workers that are gone, and return how many."""
    gone = select(Worker.id).where(~is_live())
    dropped = (
        update(Execution)
        .where(Execution.reserved_by.in_(gone))
        .values(reserved_by=None, reserved_device=None, passed_over_at=clock.now())
    )
    return len(session.scalars(dropped.returning(Execution.id)).all())
