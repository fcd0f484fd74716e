"""How much work waits, by pool."""

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db import clock
from db.states import POOLS, ExecutionStatus, StepStatus
from db.tables import Execution, Step

COUNT_MAX = 1000  # more than any pool's free slots, so counting further would tell nothing


def ready(session: Session) -> Mapping[str, int]:
    """Return how many executions could be claimed or steps bound in each pool, counted up to ``COUNT_MAX`` of each."""
    return {pool: _ready_in(session, pool) for pool in POOLS}


def _ready_in(session: Session, pool: str) -> int:
    claimable = select(Execution.id).where(
        Execution.status == ExecutionStatus.READY.value, Execution.pool == pool, Execution.ready_at <= clock.now()
    )
    unbound = select(Step.id).where(
        Step.status == StepStatus.READY.value, Step.execution_id.is_(None), Step.pool == pool
    )
    rows = claimable.limit(COUNT_MAX).union_all(unbound.limit(COUNT_MAX)).subquery()
    return session.scalar(select(func.count()).select_from(rows)) or 0
