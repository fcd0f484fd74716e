"""A lease and its token: without the row's token, and once its lease is over, a worker writes nothing."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Row, and_, select
from sqlalchemy.orm import Session

from core.ids import ExecutionId
from db import watch
from db.states import ExecutionStatus
from db.tables import Execution


class LeaseLost(Exception):
    """The token is not the row's any more, or the lease is over; nothing was changed."""


@dataclass(frozen=True)
class Lease:
    """A worker's right to an execution, as long as ``token`` is the row's."""

    execution_id: ExecutionId
    token: int


def is_held(lease: Lease) -> ColumnElement[bool]:
    """Return the condition that an execution is the lease's, that its token is the row's, and that it is not over."""
    return and_(
        Execution.id == lease.execution_id,
        Execution.token == lease.token,
        Execution.status == ExecutionStatus.RUNNING.value,
        ~watch.is_over(),
    )


def hold(session: Session, lease: Lease) -> Row[str, str]:
    """Lock the execution of a lease, to change it.

    Returns:
        its ``team_id`` and ``kind``.

    Raises:
        LeaseLost: it is lost already.
    """
    held = select(Execution.team_id, Execution.kind).where(is_held(lease)).with_for_update()
    row = session.execute(held).one_or_none()
    if row is None:
        raise LeaseLost
    return row


def require(session: Session, lease: Lease) -> None:
    """Hold the lease to the end of the transaction: nobody can take it away before.

    Raises:
        LeaseLost: it is lost already.
    """
    if session.scalar(select(Execution.id).where(is_held(lease)).with_for_update(read=True)) is None:
        raise LeaseLost
