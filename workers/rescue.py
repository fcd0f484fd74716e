"""Rescue: give back what dead workers held, end overdue jobs, delete what nothing uses or asks for any more."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core.errors import FewbitsError
from core.logging import configure_logging, log
from core.settings import settings
from db import artifacts, deadlines, expiry, idempotency
from db.lease import Retry
from db.session import UNAVAILABLE, Database, Interleaved
from db.transition import WrongState
from store.opening import open_store
from store.port import BlobStore
from workers.loop import run_until, stop_event

COLLECTED_AT_ONCE = 100
MISFIT_SECONDS = 60.0  # how long work that is too large for every worker waits for a larger one


@dataclass(frozen=True)
class Rescued:
    """What one round did."""

    executions: int
    misfits: int
    jobs: int
    blobs: int
    keys: int


NOTHING = Rescued(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Patience:
    """How long rescue waits before it acts."""

    lease_seconds: float
    garbage_grace_seconds: float
    idempotency_seconds: float


class Rescue:
    """Puts right what nobody else will.

    Args:
        database: where leases and jobs are.
        store: where blobs are.
        retry: how often lost work is tried.
        patience: how long it waits.
    """

    def __init__(self, database: Database, store: BlobStore, retry: Retry, patience: Patience) -> None:
        self._database = database
        self._store = store
        self._retry = retry
        self._patience = patience
        self._reached_since: float | None = None

    def run_once(self) -> Rescued:
        """Do all that is due and return how much it was. What fails for one row is logged and tried again.

        After an outage of Postgres no lease is taken away before workers have had one full lease to renew theirs.
        """
        try:
            done = Rescued(
                executions=self._expire_leases(),
                misfits=self._each(lambda s: expiry.misfits(s, MISFIT_SECONDS), expiry.give_up),
                jobs=self._each(deadlines.overdue, deadlines.expire),
                blobs=self._collect(),
                keys=self._database.run(lambda s: idempotency.forget(s, self._patience.idempotency_seconds)),
            )
        except UNAVAILABLE:
            self._reached_since = None
            raise
        self._reached_since = self._reached_since or time.monotonic()
        if done != NOTHING:
            log.info("rescued", **dataclasses.asdict(done))
        return done

    def _expire_leases(self) -> int:
        reached = self._reached_since
        if reached is None or time.monotonic() - reached < self._patience.lease_seconds:
            return 0
        return self._each(
            lambda s: expiry.expired(s, self._patience.lease_seconds), lambda s, row: expiry.expire(s, row, self._retry)
        )

    def _each(self, find: Callable[[Session], Sequence[str]], act: Callable[[Session, str], bool]) -> int:
        """Act on every row found, each in a transaction of its own; return on how many."""
        count = 0
        for row in self._database.run(find):
            try:
                count += self._act(act, row)
            except (Interleaved, WrongState) as error:
                log.warning("a row was busy and is looked at again later", row=row, error=str(error))
        return count

    def _act(self, act: Callable[[Session, str], bool], row: str) -> bool:
        return self._database.run(lambda session: act(session, row))

    def _collect(self) -> int:
        count = 0
        try:
            while count < COLLECTED_AT_ONCE and self._collect_one():
                count += 1
        except (OSError, FewbitsError) as error:
            log.warning("the store lets nothing be deleted", error=str(error))
        return count

    def _collect_one(self) -> bool:
        # The row stays locked until its bytes are gone, so that nobody can count on them meanwhile.
        with self._database.transaction() as session:
            sha256 = artifacts.lock_garbage(session, self._patience.garbage_grace_seconds)
            if sha256 is None:
                return False
            self._store.delete(sha256)
            artifacts.forget(session, sha256)
            return True


def main() -> None:
    """Run until told to stop."""
    here = settings("store_url")
    configure_logging(here.log_level)
    rescue = Rescue(
        Database(here.database_url.get_secret_value(), connections_max=2),
        open_store(here.store_url),
        Retry(here.attempts_max, here.retry_backoff_seconds),
        Patience(here.lease_seconds, here.garbage_grace_seconds, here.idempotency_seconds),
    )
    stop = stop_event()
    run_until(stop, rescue.run_once, lambda: stop.wait(here.rescue_seconds))
