"""A lease and its token: without the row's token a worker writes nothing."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, select
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


def is_held(lease: Lease) -> ColumnElement[bool]:
    """Return the condition that an execution is the lease's, and that its token is the row's."""
    return and_(
        Execution.id == lease.execution_id,
        Execution.token == lease.token,
        Execution.status == ExecutionStatus.RUNNING.value,
    )


def require(session: Session, lease: Lease) -> None:
    """Hold the lease to the end of the transaction: nobody can take it away before.

    Raises:
        LeaseLost: it is lost already.
    """
    if session.scalar(select(Execution.id).where(is_held(lease)).with_for_update(read=True)) is None:
        raise LeaseLost
