"""pgqueuer: a queue in Postgres that claims and finishes in batches, by coroutines of one event loop."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar

import asyncpg
import psycopg
import uvloop
from pgqueuer import PgQueuer, Queries
from pgqueuer.models import Job

from bench.queue.contenders.contender import DATABASE_URL, SLOTS, Contender, marker
from bench.queue.place import Place

ENTRYPOINT = "nothing"
OPEN = "SELECT EXISTS (SELECT FROM pgqueuer)"
FILL_BATCH = 1000


class _Pgqueuer(Contender):
    """As its own command runs a worker: one asyncpg connection, uvloop."""

    arguments: ClassVar[tuple[str, ...]]

    def __init__(self, at: Place, database_url: str) -> None:
        super().__init__(at, database_url)
        self._loop = uvloop.new_event_loop()
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._enqueuing = self._loop.run_until_complete(asyncpg.connect(database_url))
        self._queries = Queries.from_asyncpg_connection(self._enqueuing)

    def commands(self) -> Mapping[str, Sequence[str]]:
        """Return the one worker."""
        return {"worker": ["-m", __name__, *self.arguments]}

    def prepare(self) -> None:
        """Make its tables."""
        self._loop.run_until_complete(self._queries.install())

    def submit(self) -> None:
        """Insert one task."""
        self._loop.run_until_complete(self._queries.enqueue(ENTRYPOINT, None))

    def fill(self, count: int) -> None:
        """Insert that many, and have Postgres count them."""
        for first in range(0, count, FILL_BATCH):
            size = min(FILL_BATCH, count - first)
            batch = self._queries.enqueue([ENTRYPOINT] * size, [None] * size, [0] * size)
            self._loop.run_until_complete(batch)
        self._connection.execute("VACUUM ANALYZE")

    def is_drained(self) -> bool:
        """Say whether the queue is empty: what is done is moved to a log."""
        return self._connection.execute(OPEN).fetchone() == (False,)

    def close(self) -> None:
        """Close the connections."""
        self._loop.run_until_complete(self._enqueuing.close())
        self._loop.close()
        self._connection.close()


class PgqueuerOfTwo(_Pgqueuer):
    """The largest batch that it takes for four tasks at once."""

    name = "pgqueuer, batch 2"
    note = f"claims and finishes in batches of 2, the most it takes for {SLOTS} tasks at once"
    arguments = ("2", str(SLOTS))


class PgqueuerOfTen(_Pgqueuer):
    """Its defaults."""

    name = "pgqueuer, batch 10"
    note = "claims and finishes in batches of 10, its default, with no limit to the tasks at once"
    arguments = ("10",)


async def work(batch_size: int, tasks_max: int | None) -> None:
    """Run the worker until SIGTERM; what it has begun it then writes down, as its own command does."""
    connection = await asyncpg.connect(os.environ[DATABASE_URL])
    queue = PgQueuer.from_asyncpg_connection(connection)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
    tell = marker().mark

    @queue.entrypoint(ENTRYPOINT)
    async def begin(_job: Job) -> None:
        tell()

    await queue.run(batch_size=batch_size, max_concurrent_tasks=tasks_max)


def main(arguments: Sequence[str]) -> None:
    """Run the worker."""
    batch_size, *tasks_max = map(int, arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(batch_size, tasks_max[0] if tasks_max else None))


if __name__ == "__main__":
    main(sys.argv[1:])
