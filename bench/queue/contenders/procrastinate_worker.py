"""procrastinate: a queue in Postgres. Each task is claimed and finished by itself, by coroutines of one event loop."""

import os
from collections.abc import Mapping, Sequence

import psycopg
from procrastinate import App, PsycopgConnector

from bench.queue.contenders.contender import DATABASE_URL, SLOTS, Contender, marker
from bench.queue.place import Place

TASK = "nothing"
OPEN = "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))"
FILL_BATCH = 1000


class Procrastinate(Contender):
    """As its documentation starts a worker, with as many coroutines as there are slots."""

    name = "procrastinate"

    def __init__(self, at: Place, database_url: str) -> None:
        super().__init__(at, database_url)
        self._app = App(connector=PsycopgConnector(conninfo=database_url))
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._task = self._app.configure_task(TASK)

    def commands(self) -> Mapping[str, Sequence[str]]:
        """Return the one worker."""
        return {"worker": ["-m", __name__]}

    def prepare(self) -> None:
        """Make its tables."""
        self._app.open()
        self._app.schema_manager.apply_schema()

    def submit(self) -> None:
        """Insert one task."""
        self._task.defer()

    def fill(self, count: int) -> None:
        """Insert that many, and have Postgres count them."""
        for first in range(0, count, FILL_BATCH):
            self._task.batch_defer(*[{}] * min(FILL_BATCH, count - first))
        self._connection.execute("VACUUM ANALYZE")

    def is_drained(self) -> bool:
        """Say whether no task is left."""
        return self._connection.execute(OPEN).fetchone() == (False,)

    def close(self) -> None:
        """Close the connections."""
        self._app.close()
        self._connection.close()


def main() -> None:
    """Run the worker until SIGTERM."""
    app = App(connector=PsycopgConnector(conninfo=os.environ[DATABASE_URL]))
    tell = marker().mark

    @app.task(name=TASK)
    async def begin() -> None:
        tell()

    app.run_worker(concurrency=SLOTS)


if __name__ == "__main__":
    main()
