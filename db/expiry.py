"""Executions whose worker has fallen silent: given to another, or failed after their attempts."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.errors import WorkerLost
from db import clock
from db.lease import Retry, fail_attempt
from db.locks import lock_execution
from db.states import ExecutionStatus
from db.tables import Execution


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
