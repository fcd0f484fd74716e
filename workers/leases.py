"""Keeps the leases of a worker alive: one statement a second for all of them, which also says that the worker is there.

Runs in a thread of its own, so that neither a busy child nor a slow upload delays it. A renewal that fails leaves
everything as it is: only an answer from Postgres can end the work.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.ids import WorkerId
from core.logging import log
from db import lease as leases
from db import renewal
from db.renewal import LeaseState, Renewal
from db.session import UNAVAILABLE, Database, Interleaved
from db.tokens import Lease, LeaseLost
from engines.context import Progress
from workers.departure import Departure
from workers.time_left import TimedProgress, TimeLeft

T = TypeVar("T")

BEAT_SECONDS = 1.0  # also how soon a stop is noticed, and how often progress is written
RECONNECT_SECONDS = 1.0
GIVE_BACK_SECONDS = 2.0  # before the worker must be gone


class Interrupted(Exception):
    """Nobody wants the work any more, or the lease is lost."""


class HeldLease:
    """A lease that is being renewed, from the claim to the commit. Made by ``LeaseBook.hold``.

    Args:
        database: where the lease is.
        lease: which.
        departure: whether the worker must leave.
    """

    def __init__(self, database: Database, lease: Lease, departure: Departure) -> None:
        self._database = database
        self._departure = departure
        self._time_left = TimeLeft()
        self._progress: TimedProgress | None = None
        self._written: TimedProgress | None = None
        self.lease = lease
        self.state = LeaseState.HELD

    def report(self, progress: Progress) -> None:
        """Have ``progress`` written with the next renewal."""
        self._progress = self._time_left.hear(progress)

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
                if self.state is LeaseState.LOST or self._departure.wait(RECONNECT_SECONDS):
                    raise LeaseLost from error

    def news(self) -> tuple[Renewal, TimedProgress | None]:
        """Return what is to be renewed, and the progress that it then carries."""
        progress = self._progress
        has_news = progress is not None and progress is not self._written
        return Renewal(self.lease, dataclasses.asdict(progress) if progress and has_news else None), progress

    def note(self, state: LeaseState, written: TimedProgress | None) -> None:
        """Take down what a renewal has told."""
        self.state = state
        self._written = written or self._written


class LeaseBook:
    """All leases that a worker holds.

    Args:
        database: where they are.
        worker_id: whose they are.
        lease_seconds: how long each renewal lasts.
        departure: whether the worker must leave.

    Attributes:
        lease_seconds: how long each lease lasts.
        complaint: why the worker claims nothing, for the operator; None where it does.
    """

    def __init__(self, database: Database, worker_id: WorkerId, lease_seconds: float, departure: Departure) -> None:
        self._database = database
        self._worker_id = worker_id
        self.lease_seconds = lease_seconds
        self._departure = departure
        self._held: set[HeldLease] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        departure.before_the_end(GIVE_BACK_SECONDS, self._give_back)
        self._thread = threading.Thread(target=self._beat, name="leases", daemon=True)
        self.complaint: str | None = None

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def close(self) -> None:
        """Renew nothing more; every lease has been let go."""
        self._ended.set()
        self._thread.join()

    @contextlib.contextmanager
    def hold(self, lease: Lease) -> Iterator[HeldLease]:
        """Renew ``lease`` for the length of a block."""
        held = HeldLease(self._database, lease, self._departure)
        with self._lock:
            self._held.add(held)
        try:
            yield held
        finally:
            with self._lock:
                self._held.discard(held)

    def run_once(self) -> int:
        """Renew every lease that is held, and return how many still are."""
        with self._lock:
            held = [one for one in self._held if one.state is not LeaseState.LOST]
        news = [one.news() for one in held]
        renew = partial(
            renewal.renew,
            worker_id=self._worker_id,
            renewals=[one for one, _ in news],
            lease_seconds=self.lease_seconds,
            complaint=self.complaint,
        )
        for one, (_, progress), renewed in zip(held, news, self._database.run(renew), strict=True):
            one.note(renewed.state, progress if renewed.is_written else None)
        return sum(one.state is not LeaseState.LOST for one in held)

    def _give_back(self) -> None:
        """Give back what is held even now, as when a store does not answer: else it would count as lost."""
        with self._lock:
            held = list(self._held)
        for one in held:
            log.warning("given back without its result, for want of time", execution=one.lease.execution_id)
            try:
                self._database.run(partial(leases.release, lease=one.lease))
            except LeaseLost:
                continue  # it has just ended
            except UNAVAILABLE as error:
                log.warning("what is held could not be given back", error=str(error))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.run_once()
            except (SQLAlchemyError, Interleaved) as error:
                log.warning("leases could not be renewed; the work goes on", error=str(error))
