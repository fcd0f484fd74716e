"""A worker's way out: told to stop, it claims nothing more, gives its children a grace, and has ended in time.

Refuses to know what a child does with the grace.
"""

import threading
import time
from collections.abc import Callable

CHILDREN_SHARE = 0.6  # of the time there is; the rest is for what they have saved to be kept, and the rows written


class Departure:
    """Whether this worker must leave, and how soon.

    Args:
        shutdown_seconds: within this it must be gone.
    """

    def __init__(self, shutdown_seconds: float) -> None:
        self.shutdown_seconds = shutdown_seconds
        self._begun = threading.Event()
        self._begun_at = 0.0
        self._last_acts: list[tuple[float, Callable[[], None]]] = []

    def before_the_end(self, seconds: float, act: Callable[[], None]) -> None:
        """Have ``act`` called so many seconds before this worker must be gone, in a thread, if it is still there."""
        self._last_acts.append((seconds, act))

    def begin(self) -> None:
        """Leave from now on. Again changes nothing."""
        if not self._begun.is_set():
            self._begun_at = time.monotonic()
            for seconds, act in self._last_acts:
                timer = threading.Timer(self.shutdown_seconds - seconds, act)
                timer.daemon = True
                timer.start()
            self._begun.set()

    def has_begun(self) -> bool:
        """Return whether this worker must leave."""
        return self._begun.is_set()

    def grace_is_over(self) -> bool:
        """Return whether a child that still runs must be ended."""
        return self.has_begun() and time.monotonic() - self._begun_at > CHILDREN_SHARE * self.shutdown_seconds

    def wait(self, timeout_seconds: float) -> bool:
        """Wait a while for this worker to have to leave, and return whether it has."""
        return self._begun.wait(timeout_seconds)
