"""Several threads that begin at the same moment, each with connections of its own."""

import threading
from collections.abc import Callable
from typing import Any

from tests.db.conftest import Bench


def together(*acts: Callable[[], Any]) -> None:
    """Do all of it at once, and fail as the first of it does."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> None:
        try:
            start.wait()
            act()
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def deadlocks(bench: Bench) -> int:
    """Return how many Postgres had to break, though a verb was run again and nobody has noticed."""
    bench.database.dispose()  # what ends tells all that it has counted
    return int(bench.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))
