"""What the comparison asks of a queue. Its processes tell each start of a task through the named pipe in MARKS."""

import abc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from bench.queue.marks import Marker
from bench.queue.place import Place

SLOTS = 4
MARKS = "BENCH_MARKS"
DATABASE_URL = "BENCH_DATABASE_URL"
BROKER_URL = "BENCH_BROKER_URL"


class Contender(abc.ABC):
    """A queue whose worker runs ``SLOTS`` tasks at once.

    Args:
        at: the servers that it uses.
        database_url: an empty database of its own; one that needs none lets it be.
    """

    name: ClassVar[str]
    note: ClassVar[str] = ""

    def __init__(self, at: Place, database_url: str) -> None:
        self.at = at
        self.database_url = database_url

    @abc.abstractmethod
    def commands(self) -> Mapping[str, Sequence[str]]:
        """Return its processes, each as the interpreter's arguments; ``worker`` is among them."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make its tables, and whatever submitting needs."""

    @abc.abstractmethod
    def submit(self) -> None:
        """Submit one task; returns when it is committed."""

    @abc.abstractmethod
    def fill(self, count: int) -> None:
        """Make ``count`` tasks ready while no worker runs."""

    @abc.abstractmethod
    def is_drained(self) -> bool:
        """Say whether every task is done, and that is committed."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connections that submitting needed."""

    def environment(self, marks: Path) -> Mapping[str, str]:
        """Return what its processes find in their environment."""
        return {MARKS: str(marks), DATABASE_URL: self.database_url, BROKER_URL: self.at.broker_url}


def marker() -> Marker:
    """Return what a worker tells its starts with."""
    return Marker(Path(os.environ[MARKS]))
