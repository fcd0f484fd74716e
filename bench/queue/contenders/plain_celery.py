"""Plain Celery: early acknowledgement, no prefetch, threads. The task is the message; nothing is kept elsewhere."""

import os
from collections.abc import Mapping, Sequence

from celery import Celery
from redis import Redis

from bench.queue.contenders.contender import BROKER_URL, SLOTS, Contender, marker
from bench.queue.place import Place

TASK = QUEUE = "nothing"


class PlainCelery(Contender):
    """The same broker, and the same settings of Celery's, as fewbits sends its hints with."""

    name = "Celery"
    note = "keeps no state but the message: a task that is lost with its worker or with the broker is lost for good"

    def __init__(self, at: Place, database_url: str) -> None:
        super().__init__(at, database_url)
        self._app = make_app(at.broker_url)
        self._redis = Redis.from_url(at.broker_url)

    def commands(self) -> Mapping[str, Sequence[str]]:
        """Return the one worker."""
        return {"worker": ["-m", __name__]}

    def prepare(self) -> None:
        """Empty the broker."""
        self._redis.flushall()

    def submit(self) -> None:
        """Send one message."""
        self._app.send_task(TASK, queue=QUEUE)

    def fill(self, count: int) -> None:
        """Send that many."""
        with self._app.producer_pool.acquire(block=True) as producer:
            for _ in range(count):
                self._app.send_task(TASK, queue=QUEUE, producer=producer)

    def is_drained(self) -> bool:
        """Say whether the queue is empty: with early acknowledgement nothing else is written."""
        return int(self._redis.llen(QUEUE)) == 0

    def close(self) -> None:
        """Close both connections."""
        self._app.close()
        self._redis.close()


def make_app(broker_url: str) -> Celery:
    """Return the application, which keeps no results."""
    app = Celery("plain", broker=broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        worker_disable_prefetch=True,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
    )
    return app


def main() -> None:
    """Run the worker until SIGTERM."""
    app = make_app(os.environ[BROKER_URL])
    app.task(name=TASK)(marker().mark)
    app.Worker(
        pool="threads",
        concurrency=SLOTS,
        queues=[QUEUE],
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    ).start()


if __name__ == "__main__":
    main()
