"""The one way a status changes: a guarded UPDATE, of which the first to commit wins."""

from typing import Any

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from db import clock
from db.states import ExecutionStatus, JobStatus, Status, StepStatus, is_terminal, origins
from db.tables import Execution, Job, Step

_TABLES: dict[type[Status], type[Job | Step | Execution]] = {
    JobStatus: Job,
    StepStatus: Step,
    ExecutionStatus: Execution,
}


class WrongState(Exception):
    """The row was not in a status from which the wanted one may be reached: another transaction was first."""


def transition(
    session: Session, to: Status, where: ColumnElement[bool], *, returning: str = "id", **values: Any
) -> list[str]:
    """Move every row that ``where`` selects, and whose status allows it, to ``to``.

    Args:
        session: the caller's transaction.
        to: the new status; decides the table.
        where: which rows.
        returning: the column that tells which rows moved.
        values: further columns to set.

    Returns:
        that column of the rows that moved, in no order.
    """
    table = _TABLES[type(to)]
    if is_terminal(to):
        values["finished_at"] = clock.now()
    statement = update(table).where(where, table.status.in_(origins(to))).values(status=to.value, **values)
    moved = statement.returning(getattr(table, returning))
    return list(session.scalars(moved.execution_options(synchronize_session="fetch")))


def transition_one(session: Session, to: Status, row_id: str, **values: Any) -> None:
    """Move one row.

    Raises:
        WrongState: its status did not allow it.
    """
    table = _TABLES[type(to)]
    if not transition(session, to, table.id == row_id, **values):
        raise WrongState(f"{table.__tablename__} {row_id} cannot become {to.value}")
