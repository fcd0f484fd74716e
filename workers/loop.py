"""What a process does until it is told to stop; an outage of what it needs is logged and waited out."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from core.heartbeat import beat
from core.logging import log
from db.session import Interleaved
from workers.departure import Departure

T = TypeVar("T")

OUTAGES = (SQLAlchemyError, Interleaved, RedisError, OSError)
OUTAGE_WAIT_SECONDS = 1.0


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def run_until(
    stop: threading.Event, run_once: Callable[[], object], wait: Callable[[], object], heartbeat: Path | None
) -> None:
    """Run, wait, run again, until ``stop`` is set.

    Args:
        stop: ends the loop.
        run_once: does what there is to do and returns what it did.
        wait: returns when it is time to look again.
        heartbeat: touched at each turn, also where one fails.
    """
    while not stop.is_set():
        beat(heartbeat)
        try:
            run_once()
            wait()
        except OUTAGES as error:
            log.warning("something this loop needs cannot be reached", error=str(error))
            stop.wait(OUTAGE_WAIT_SECONDS)


def when_reachable(act: Callable[[], T], departure: Departure, heartbeat: Path | None) -> T | None:
    """Return what ``act`` returns, once all that it needs can be reached; None where the process must leave before.

    Args:
        act: what to do, again after each outage.
        departure: whether the process must leave.
        heartbeat: touched at each try.
    """
    while not departure.has_begun():
        beat(heartbeat)
        try:
            return act()
        except OUTAGES as error:
            log.warning("something that is needed to start cannot be reached", error=str(error))
            departure.wait(OUTAGE_WAIT_SECONDS)
    return None
