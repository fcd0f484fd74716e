"""Keeps one lease alive, in a thread of its own, from the claim to the commit.

A renewal that fails leaves everything as it is: only an answer from Postgres can end the work.
"""

import dataclasses
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from core.logging import log
from db import lease as leases
from db.claim import Lease
from db.lease import LeaseState
from db.session import Database
from engines.context import Progress

BEAT_SECONDS = 1.0  # also how soon a stop is noticed, and how often progress is written


class Heartbeat:
    """Renews ``lease`` once a second and carries the progress with it.

    Args:
        database: where the lease is.
        lease: what to renew.
        lease_seconds: how long each renewal lasts.
        interrupt: called once, in the heartbeat's thread, when the work must stop.
    """

    def __init__(self, database: Database, lease: Lease, lease_seconds: float, interrupt: Callable[[], None]) -> None:
        self._database = database
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._interrupt = interrupt
        self._progress: Progress | None = None
        self._written: Progress | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {lease.execution_id}", daemon=True)
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

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.state = self._renew()
            except SQLAlchemyError as error:
                log.warning("a lease could not be renewed; its work goes on", error=str(error))
                continue
            if self.state is not LeaseState.HELD:
                self._interrupt()
                return

    def _renew(self) -> LeaseState:
        progress = self._progress
        news = None if progress is self._written or progress is None else dataclasses.asdict(progress)
        state = self._database.run(lambda s: leases.renew(s, self._lease, self._lease_seconds, news))
        self._written = progress
        return state
