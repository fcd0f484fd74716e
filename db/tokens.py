"""A lease and its token: without the row's token, and once its lease is over, a worker writes nothing."""

from dataclasses import asdict, dataclass

from sqlalchemy import Row, TextClause, text
from sqlalchemy.orm import Session

from core.ids import ExecutionId
from db import watch


class LeaseLost(Exception):
    """The token is not the row's any more, or the lease is over; nothing was changed."""


@dataclass(frozen=True)
class Lease:
    """A worker's right to an execution, as long as ``token`` is the row's."""

    execution_id: ExecutionId
    token: int


# The condition that an execution is the lease's, that its token is the row's, and that it is not over.
IS_HELD = f"""(
    executions.id = :execution_id AND executions.token = :token AND executions.status = 'running'
    AND NOT {watch.IS_OVER}
)"""
_HELD = f"SELECT team_id, kind FROM executions WHERE {IS_HELD}"
_TO_CHANGE = text(f"{_HELD} FOR UPDATE")
_TO_STAY = text(f"{_HELD} FOR SHARE")


def hold(session: Session, lease: Lease) -> Row[str, str]:
    """Lock the execution of a lease, to change it.

    Returns:
        its ``team_id`` and ``kind``.

    Raises:
        LeaseLost: it is lost already.
    """
    return _held(session, _TO_CHANGE, lease)


def require(session: Session, lease: Lease) -> None:
    """Hold the lease to the end of the transaction: nobody can take it away before.

    Raises:
        LeaseLost: it is lost already.
    """
    _held(session, _TO_STAY, lease)


def _held(session: Session, statement: TextClause, lease: Lease) -> Row[str, str]:
    row = session.execute(statement, asdict(lease)).one_or_none()
    if row is None:
        raise LeaseLost
    return row
