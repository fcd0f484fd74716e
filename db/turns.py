"""Places that are given in the order in which they are asked for. Refuses to know what is done in one.

SQLAlchemy's pool of connections wakes whoever waits, but gives the connection to the first who comes, often the one who
has just returned it: with more requests at once than connections, some waited for ten seconds.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class NoTurn(Exception):
    """Nobody has left in time."""


class Turns:
    """A number of places.

    Args:
        count: how many there are.
        seconds: how long each waits for one at most.
    """

    def __init__(self, count: int, seconds: float) -> None:
        self._free = count
        self._seconds = seconds
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have a place for the length of a block.

        Raises:
            NoTurn: there was none in time.
        """
        self._take()
        try:
            yield
        finally:
            self._leave()

    def _take(self) -> None:
        with self._lock:
            if self._free:  # then nobody waits
                self._free -= 1
                return
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(self._seconds):
            return
        with self._lock:
            if not mine.is_set():  # else it came at the last moment
                self._waiting.remove(mine)
                raise NoTurn(f"there was no turn within {self._seconds:g} s")

    def _leave(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
