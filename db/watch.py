"""When a lease that has run out is over: by the database's clock, once its holder had its chance to renew it.

Rescue says regularly that it looks. A lease that has run out is over if rescue has looked without a break for a whole
lease: while Postgres or rescue was away nobody loses anything, and all have one lease's time to renew theirs. Those who
take a lease away and those who hold one ask the same question, so a worker that stalls past the end of its lease writes
nothing more, even before another has its work.
"""

from sqlalchemy import Boolean, ColumnElement, case, literal_column, or_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import clock
from db.tables import RescueWatch

BREAKS_PER_LEASE = 2  # a break in the watch is a silence of half a lease: a holder has the other half to renew

# That an execution's lease has run out and is over; the table's own name is in scope.
IS_OVER = f"""(
    executions.lease_expires_at < clock_timestamp() AND EXISTS (
        SELECT FROM rescue_watch
        WHERE looked_at > clock_timestamp() - make_interval(secs => lease_seconds / {BREAKS_PER_LEASE})
          AND unbroken_since < clock_timestamp() - make_interval(secs => lease_seconds)
    )
)"""


def look(session: Session, lease_seconds: float) -> None:
    """Say that rescue looks.

    Args:
        session: the caller's transaction.
        lease_seconds: how long the workers' leases last.
    """
    new = insert(RescueWatch).values(
        id=1, lease_seconds=lease_seconds, unbroken_since=clock.now(), looked_at=clock.now()
    )
    broken = or_(
        RescueWatch.looked_at < clock.now() - clock.seconds(lease_seconds / BREAKS_PER_LEASE),
        RescueWatch.lease_seconds != lease_seconds,
    )
    session.execute(
        new.on_conflict_do_update(
            index_elements=["id"],
            set_={
                "lease_seconds": lease_seconds,
                "unbroken_since": case((broken, clock.now()), else_=RescueWatch.unbroken_since),
                "looked_at": clock.now(),
            },
        )
    )


def is_over() -> ColumnElement[bool]:
    """Return ``IS_OVER`` for statements that are not written in SQL."""
    return literal_column(IS_OVER, Boolean)
