"""Rescue: give back what dead workers held, end overdue jobs, collect blobs that nothing uses."""

import time
from dataclasses import dataclass

from core.logging import configure_logging, log
from core.settings import settings
from db import artifacts, expiry, jobs
from db.lease import Retry
from db.session import Database
from store.opening import open_store
from store.port import BlobStore
from workers.loop import run_until, stop_event

COLLECTED_AT_ONCE = 100


@dataclass(frozen=True)
class Rescued:
    """What one round did."""

    executions: int
    jobs: int
    blobs: int


@dataclass(frozen=True)
class Patience:
    """How long rescue waits before it acts."""

    lease_seconds: float
    garbage_grace_seconds: float


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
        """Do all that is due and return how much it was.

        After an outage of Postgres no lease is taken away before workers have had one full lease to renew theirs.
        """
        try:
            done = Rescued(
                executions=self._expire_leases(),
                jobs=sum(self._expire_job(job_id) for job_id in self._database.run(jobs.overdue)),
                blobs=self._collect(),
            )
        except Exception:
            self._reached_since = None
            raise
        self._reached_since = self._reached_since or time.monotonic()
        if done != Rescued(0, 0, 0):
            log.info("rescued", executions=done.executions, jobs=done.jobs, blobs=done.blobs)
        return done

    def _expire_leases(self) -> int:
        reached = self._reached_since
        if reached is None or time.monotonic() - reached < self._patience.lease_seconds:
            return 0
        silent = self._database.run(lambda s: expiry.expired(s, self._patience.lease_seconds))
        return sum(self._expire(execution_id) for execution_id in silent)

    def _expire(self, execution_id: str) -> bool:
        return self._database.run(lambda s: expiry.expire(s, execution_id, self._retry))

    def _expire_job(self, job_id: str) -> bool:
        return self._database.run(lambda s: jobs.expire(s, job_id))

    def _collect(self) -> int:
        count = 0
        while count < COLLECTED_AT_ONCE and self._collect_one():
            count += 1
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
    here = settings()
    configure_logging(here.log_level)
    rescue = Rescue(
        Database(here.database_url.get_secret_value(), connections_max=2),
        open_store(here.store_url),
        Retry(here.attempts_max, here.retry_backoff_seconds),
        Patience(here.lease_seconds, here.garbage_grace_seconds),
    )
    stop = stop_event()
    run_until(stop, rescue.run_once, lambda: stop.wait(here.rescue_seconds))
