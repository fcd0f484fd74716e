"""Time by the database's clock, which is the only one that counts."""

from typing import Any

from sqlalchemy import func, select


def now() -> Any:
    """Return the SQL expression for this moment (not the start of the transaction)."""
    return func.clock_timestamp()


def seconds(amount: Any) -> Any:
    """Return the SQL interval of ``amount`` seconds; NULL stays NULL."""
    return func.make_interval(0, 0, 0, 0, 0, 0, amount)


def ago(amount: Any) -> Any:
    """Return the SQL expression for the moment that many seconds ago, as a query, so that an index is used."""
    return select(now() - seconds(amount)).scalar_subquery()


def after(amount: Any) -> Any:
    """Return the SQL expression for the moment that many seconds from now."""
    return now() + seconds(amount)
