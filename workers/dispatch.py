"""Dispatch: give ready steps their executions as they come, and tell idle workers that there may be work.

Keeps no state and decides nothing: workers bind, too, before they claim, so nothing waits for this process.
"""

from collections.abc import Mapping

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis

from core.logging import configure_logging, log
from core.settings import settings
from db import demand, workers
from db.listen import Listener
from db.notify import WORK
from db.session import Database
from engines import methods
from pipeline.binding import bind_ready_steps
from workers.celery_app import BROKER_TIMEOUT_SECONDS, HINT, HINT_EXPIRES_SECONDS, make_app
from workers.loop import run_until, stop_event

LOOK_SECONDS = 2.0  # how long a lost notification can go unnoticed


class Dispatch:
    """Binds, and sends hints to the pools' queues.

    Args:
        database: where the work is.
        broker_url: where the hints go.
    """

    def __init__(self, database: Database, broker_url: str) -> None:
        self._database = database
        self._app: Celery = make_app(broker_url)
        self._redis = Redis.from_url(
            broker_url, socket_timeout=BROKER_TIMEOUT_SECONDS, socket_connect_timeout=BROKER_TIMEOUT_SECONDS
        )

    def run_once(self) -> Mapping[str, int]:
        """Send each pool a hint for each free slot that it has work for, less those on their way; return the counts."""
        bind_ready_steps(self._database)
        with self._database.transaction() as session:
            ready, free = demand.ready(session), workers.free_slots(session)
        return {pool: self._send(pool, min(count, free.get(pool, 0))) for pool, count in ready.items()}

    def _send(self, pool: str, wanted: int) -> int:
        # A list in Redis has the queue's name; what a worker has taken from it is not counted.
        missing = max(wanted - int(self._redis.llen(pool)), 0) if wanted else 0
        for _ in range(missing):
            try:
                self._app.send_task(HINT, queue=pool, expires=HINT_EXPIRES_SECONDS, retry=False)
            except OperationalError as error:
                raise ConnectionError(f"the broker took no hint: {error}") from error
        if missing:
            log.debug("hints sent", pool=pool, count=missing)
        return missing


def main() -> None:
    """Run until told to stop."""
    here = settings("broker_url")
    configure_logging(here.log_level)
    methods.load(here.method_modules)
    url = here.database_url.get_secret_value()
    dispatch = Dispatch(Database(url, connections_max=1), here.broker_url.get_secret_value())
    listener = Listener(url, WORK)
    run_until(stop_event(), dispatch.run_once, lambda: listener.wait(LOOK_SECONDS), here.heartbeat_file)
