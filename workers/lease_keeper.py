"""Keeps one lease alive, in a thread of its own, from the claim to the commit.

A renewal that fails leaves everything as it is: only an answer from Postgres can end the work.
"""

import dataclasses
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.logging import log
from db import lease as leases
from db.lease import LeaseState
from db.session import UNAVAILABLE, Database, Interleaved
from db.tokens import Lease, LeaseLost
from engines.context import Progress

T = TypeVar("T")

BEAT_SECONDS = 1.0  # also how soon a stop is noticed, and how often progress is written
RECONNECT_SECONDS = 1.0


class Interrupted(Exception):
    """Nobody wants the work any more, or the lease is lost."""


class LeaseKeeper:
    """Renews ``lease`` once a second and carries the progress with it.

    Args:
        database: where the lease is.
        lease: what to renew.
        lease_seconds: how long each renewal lasts.
        closing: set when the worker must leave.
    """

    def __init__(self, database: Database, lease: Lease, lease_seconds: float, closing: threading.Event) -> None:
        self._database = database
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._closing = closing
        self._progress: Progress | None = None
        self._written: Progress | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {lease.execution_id}", daemon=True)
        self.state = LeaseState.HELD

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def report(self, progress: Progress) -> None:
        """Have ``progress`` written with the next renewal."""
        self._progress = progress

    def check(self) -> None:
        """Return as long as the work is wanted.

        Raises:
            Interrupted: it is not.
        """
        if self.state is not LeaseState.HELD:
            raise Interrupted

    def persist(self, verb: Callable[[Session], T]) -> T:
        """Run ``verb`` in a transaction, again and again while Postgres is away and nobody has taken the lease.

        Raises:
            LeaseLost: somebody has, or the worker must leave while Postgres is away.
        """
        while True:
            try:
                return self._database.run(verb)
            except UNAVAILABLE as error:
                log.warning("what was done cannot be written down yet", error=str(error))
                if self.state is LeaseState.LOST or self._closing.wait(RECONNECT_SECONDS):
                    raise LeaseLost from error

    def _beat(self) -> None:
        while self.state is LeaseState.HELD and not self._ended.wait(BEAT_SECONDS):
            try:
                self.state = self._renew()
            except (SQLAlchemyError, Interleaved) as error:
                log.warning("a lease could not be renewed; its work goes on", error=str(error))

    def _renew(self) -> LeaseState:
        progress = self._progress
        news = None if progress is self._written or progress is None else dataclasses.asdict(progress)
        state = self._database.run(lambda s: leases.renew(s, self._lease, self._lease_seconds, news))
        self._written = progress
        return state
