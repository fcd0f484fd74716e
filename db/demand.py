"""How much work waits, by pool."""

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db import clock
from db.states import ExecutionStatus, StepStatus
from db.tables import Execution, Step

COUNT_MAX = 1000  # more than any pool's free slots, so counting further would tell nothing


def ready(session: Session) -> Mapping[str, int]:
    """Return how many executions could be claimed or steps bound in each pool, counted up to ``COUNT_MAX`` of each."""
    claimable = select(Execution.pool).where(
        Execution.status == ExecutionStatus.READY.value, Execution.ready_at <= clock.now()
    )
    unbound = select(Step.pool).where(Step.status == StepStatus.READY.value, Step.execution_id.is_(None))
    rows = claimable.limit(COUNT_MAX).union_all(unbound.limit(COUNT_MAX)).subquery()
    statement = select(rows.c.pool, func.count()).group_by(rows.c.pool)
    return {pool: int(count) for pool, count in session.execute(statement)}
