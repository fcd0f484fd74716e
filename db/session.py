"""Connections and transactions. The one place that commits."""

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DisconnectionError, InterfaceError, InternalError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from db.turns import NoTurn, Turns

T = TypeVar("T")

STALLED_SECONDS = 20  # a process that stalls in a transaction loses it then, before its lease, and locks nothing longer
TURN_SECONDS = 30.0  # how long a transaction waits for a connection
CONFLICTS_MAX = 8
CONFLICT_WAIT_SECONDS = 0.02
RESTED_SECONDS = 1.0  # a connection that was used later than that is taken to be good: asking costs a tenth of a claim
USED_AT = "fewbits_used_at"
_OPTIONS = {
    "timezone": "UTC",
    "lock_timeout": "10s",
    "jit": "off",  # it took longer to compile a page of jobs than to read it
    "idle_in_transaction_session_timeout": f"{STALLED_SECONDS}s",
}
# serialization_failure, deadlock_detected, idle_in_transaction_session_timeout
RETRIED_SQLSTATES = frozenset({"40001", "40P01", "25P03"})


def sqlalchemy_url(url: str) -> str:
    """Return a ``postgresql://`` URL as SQLAlchemy wants it, which also names the driver."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


class Interleaved(Exception):
    """Another transaction changed, between a read and its lock, what this one was about to change."""

    def __str__(self) -> str:
        return "another transaction was in the way each time"


# Postgres is away, or too busy: the same verb may succeed later. Not among them is what Postgres refuses to store.
UNAVAILABLE = (OperationalError, InterfaceError, NoTurn, Interleaved)


class Database:
    """A pool of connections to one Postgres.

    Args:
        url: ``postgresql://user:password@host:port/name``.
        connections_max: connections this process may hold at once.
    """

    def __init__(self, url: str, *, connections_max: int = 10) -> None:
        self.url = url
        self.engine = create_engine(
            sqlalchemy_url(url),
            pool_size=connections_max,
            max_overflow=0,
            connect_args={
                "connect_timeout": 5,
                "options": " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items()),
            },
        )
        event.listen(self.engine, "checkin", _note_use)
        event.listen(self.engine, "checkout", _ping_if_rested)
        self._turns = Turns(connections_max, TURN_SECONDS)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction; it is committed at the end of the block, rolled back on an error."""
        with self._turns.turn(), self._sessions.begin() as session:
            yield session

    def run(self, verb: Callable[[Session], T]) -> T:
        """Run ``verb`` in a transaction of its own, again if Postgres broke it off over a conflict with another."""
        for attempt in range(1, CONFLICTS_MAX + 1):
            try:
                with self.transaction() as session:
                    return verb(session)
            except (OperationalError, InternalError, Interleaved) as error:
                if not _is_conflict(error) or attempt == CONFLICTS_MAX:
                    raise
                time.sleep(random.uniform(0, CONFLICT_WAIT_SECONDS * attempt))  # noqa: S311 - so that two do not meet again
        raise AssertionError("unreachable: the last attempt returns or raises")

    def dispose(self) -> None:
        """Close every connection that is not in use."""
        self.engine.dispose()


def _note_use(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[USED_AT] = time.monotonic()


def _ping_if_rested(connection: psycopg.Connection, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Have the pool open another connection in place of one that has broken while it was not in use."""
    if time.monotonic() - record.info.get(USED_AT, -math.inf) < RESTED_SECONDS:
        return
    try:
        connection.execute("")
        connection.rollback()
    except psycopg.Error as error:
        raise DisconnectionError from error


def _is_conflict(error: OperationalError | InternalError | Interleaved) -> bool:
    return isinstance(error, Interleaved) or getattr(error.orig, "sqlstate", None) in RETRIED_SQLSTATES
