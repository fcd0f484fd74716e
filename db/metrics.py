"""What attempts measured on their way, module by module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from db.tables import Metric, Step
from db.tokens import Lease, require


@dataclass(frozen=True)
class NewMetric:
    """What was measured of one module of one layer: named values such as its ``loss``."""

    layer: int
    module: str
    values: Mapping[str, float]


def append(session: Session, lease: Lease, attempt: int, measured: Sequence[NewMetric], first_number: int) -> None:
    """Write what an attempt has measured, but for what of it is written already.

    Args:
        session: the caller's transaction.
        lease: of the execution.
        attempt: which attempt measured it.
        measured: in the order of measurement.
        first_number: how much the attempt had measured before.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    require(session, lease)
    rows = [
        {
            "execution_id": lease.execution_id,
            "attempt": attempt,
            "number": number,
            "layer": one.layer,
            "module": one.module,
            "values": dict(one.values),
        }
        for number, one in enumerate(measured, first_number)
    ]
    unwritten = insert(Metric).on_conflict_do_nothing(index_elements=["execution_id", "attempt", "number"])
    session.execute(unwritten, rows)


def page(session: Session, job_id: str, after: int, limit: int) -> tuple[Sequence[tuple[Step, Metric]], bool]:
    """Return up to ``limit`` metrics that follow metric ``after``, each with its step, and whether there are more."""
    statement = (
        select(Step, Metric)
        .join(Metric, Metric.execution_id == Step.execution_id)
        .where(Step.job_id == job_id, Metric.id > after)
        .order_by(Metric.id)
        .limit(limit + 1)
    )
    rows = [(row[0], row[1]) for row in session.execute(statement)]
    return rows[:limit], len(rows) > limit


def latest(session: Session, job_id: str) -> Sequence[tuple[int, str, Mapping[str, float]]]:
    """Return the values of each module of each layer, as its last attempt measured them.

    Returns:
        layer, module and values by name, by layer and module.
    """
    statement = (
        select(Metric.layer, Metric.module, Metric.values)
        .join(Step, Step.execution_id == Metric.execution_id)
        .where(Step.job_id == job_id)
        .ext(distinct_on(Metric.layer, Metric.module))
        .order_by(Metric.layer, Metric.module, Metric.id.desc())
    )
    return [(row[0], row[1], row[2]) for row in session.execute(statement)]
