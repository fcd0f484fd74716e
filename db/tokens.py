"""A lease and its token: without the row's token a worker writes nothing."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.ids import ExecutionId
from db.states import ExecutionStatus
from db.tables import Execution


class LeaseLost(Exception):
    """The token is not the row's any more; nothing was changed."""


@dataclass(frozen=True)
class Lease:
    """A worker's right to an execution, as long as ``token`` is the row's."""

    execution_id: ExecutionId
    token: int


def require(session: Session, lease: Lease) -> None:
    """Hold the lease to the end of the transaction: nobody can take it away before.

    Raises:
        LeaseLost: it is lost already.
    """
    held = select(Execution.id).where(
        Execution.id == lease.execution_id,
        Execution.token == lease.token,
        Execution.status == ExecutionStatus.RUNNING.value,
    )
    if session.scalar(held.with_for_update(read=True)) is None:
        raise LeaseLost
