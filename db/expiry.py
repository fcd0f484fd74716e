"""Executions that nobody works on: their worker has fallen silent, or no worker is large enough for them."""

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from core.errors import DoesNotFit, WorkerLost
from db import clock
from db.lease import Retry, fail_attempt, fail_for_good
from db.locks import lock_execution
from db.states import ExecutionStatus
from db.tables import Execution, Worker
from db.workers import is_live


def expired(session: Session, lease_seconds: float) -> Sequence[str]:
    """Return the executions whose lease has run out; none until Postgres has been up for one full lease."""
    up = clock.now() - func.pg_postmaster_start_time()
    if not session.scalar(select(up > clock.seconds(lease_seconds))):
        return []
    statement = select(Execution.id).where(
        Execution.status == ExecutionStatus.RUNNING.value, Execution.lease_expires_at < clock.now()
    )
    return session.scalars(statement.order_by(Execution.lease_expires_at)).all()


def expire(session: Session, execution_id: str, retry: Retry) -> bool:
    """Take an execution from a silent worker; return whether its lease had still run out once it was locked."""
    execution, jobs = lock_execution(session, execution_id)
    silent = session.scalar(
        select(Execution.id).where(
            Execution.id == execution_id,
            Execution.status == ExecutionStatus.RUNNING.value,
            Execution.lease_expires_at < clock.now(),
        )
    )
    if silent is None:
        return False
    error = WorkerLost(f"The worker that ran {execution.kind} has not been heard of since its lease ran out.")
    fail_attempt(session, execution, jobs, error.document(), retry)
    return True


def misfits(session: Session, patience_seconds: float) -> Sequence[str]:
    """Return the executions that have been ready for a while and need more than any live worker of their pool has.

    A pool without a live worker has no misfits: one may come.
    """
    statement = (
        select(Execution.id)
        .join(Worker, (Worker.pool == Execution.pool) & is_live())
        .where(
            Execution.status == ExecutionStatus.READY.value,
            Execution.ready_at < clock.now() - clock.seconds(patience_seconds),
        )
        .group_by(Execution.id)
        .having(
            or_(
                Execution.memory_bytes > func.max(Worker.memory_bytes),
                Execution.scratch_bytes > func.max(Worker.scratch_bytes),
            )
        )
    )
    return session.scalars(statement).all()


def give_up(session: Session, execution_id: str) -> bool:
    """Fail an execution that fits no worker, with the forecast; return whether it was still waiting."""
    execution, jobs = lock_execution(session, execution_id)
    if execution.status != ExecutionStatus.READY:
        return False
    error = DoesNotFit(
        f"{execution.kind.capitalize()} needs {execution.memory_bytes / 1e9:.1f} GB of memory and "
        f"{execution.scratch_bytes / 1e9:.1f} GB of scratch disk, which no {execution.pool} worker has. "
        "Ask your operator for a larger worker, or choose a smaller model or, where a recipe has them, fewer samples."
    )
    fail_for_good(session, execution, jobs, error.document())
    return True
