"""Rescue: give back what dead workers held, and end what is overdue or fits nowhere."""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from core.logging import configure_logging, log
from core.settings import settings
from db import deadlines, expiry, watch
from db.ending import Retry
from db.session import Database, Interleaved
from db.transition import WrongState
from store.opening import open_store
from workers.collector import Collector, Keeping
from workers.loop import run_until, stop_event

MISFIT_SECONDS = 60.0  # how long work that is too large for every worker waits for a larger one


@dataclass(frozen=True)
class Rescued:
    """What one round did."""

    executions: int
    misfits: int
    jobs: int
    reservations: int


NOTHING = Rescued(0, 0, 0, 0)


class Rescue:
    """Puts right what nobody else will.

    Args:
        database: where leases and jobs are.
        retry: how often lost work is tried.
        lease_seconds: how long the workers' leases last.
    """

    def __init__(self, database: Database, retry: Retry, lease_seconds: float) -> None:
        self._database = database
        self._retry = retry
        self._lease_seconds = lease_seconds

    def run_once(self) -> Rescued:
        """Do all that is due and return how much it was. What fails for one row is logged and tried again."""
        self._database.run(partial(watch.look, lease_seconds=self._lease_seconds))
        done = Rescued(
            executions=self._each(expiry.expired, partial(expiry.expire, retry=self._retry)),
            misfits=self._each(partial(expiry.misfits, patience_seconds=MISFIT_SECONDS), expiry.give_up),
            jobs=self._each(deadlines.overdue, deadlines.expire),
            reservations=self._database.run(expiry.drop_reservations),
        )
        if done != NOTHING:
            log.info("rescued", **dataclasses.asdict(done))
        return done

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


def main() -> None:
    """Run until told to stop. What is collected has a thread of its own: a slow store must not hold up a rescue."""
    here = settings("store_url")
    configure_logging(here.log_level)
    database = Database(here.database_url.get_secret_value(), connections_max=3)
    rescue = Rescue(database, Retry(here.attempts_max, here.retry_backoff_seconds, here.deaths_max), here.lease_seconds)
    keeping = Keeping(here.garbage_grace_seconds, here.idempotency_seconds, here.history_seconds)
    collector = Collector(database, open_store(here), keeping)
    stop = stop_event()

    def collect() -> None:
        run_until(stop, collector.run_once, lambda: stop.wait(here.rescue_seconds), None)

    thread = threading.Thread(target=collect, name="collector", daemon=True)
    thread.start()
    run_until(stop, rescue.run_once, lambda: stop.wait(here.rescue_seconds), here.heartbeat_file)
