"""How long to wait before trying again, and when to give up."""

import random
import time

_DELAY_MAX_SECONDS = 15.0


class Backoff:
    """Waits that double with each failure, with jitter so that many clients do not return at once.

    Args:
        first_seconds: the longest first wait.
        patience_seconds: how long without success before `wait` gives up.
    """

    def __init__(self, first_seconds: float, patience_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._patience_seconds = patience_seconds
        self.succeeded()

    def succeeded(self) -> None:
        """Begin anew: what was tried works again."""
        self._failures = 0
        self._since = time.monotonic()

    def wait(self, error: Exception) -> None:
        """Sleep before the next try.

        Args:
            error: why the last try failed.

        Raises:
            Exception: `error` itself, once patience has run out.
        """
        if time.monotonic() - self._since >= self._patience_seconds:
            raise error
        delay_seconds = min(self._first_seconds * 2.0 ** min(self._failures, 16), _DELAY_MAX_SECONDS)
        self._failures += 1
        time.sleep(delay_seconds * random.uniform(0.5, 1.0))  # noqa: S311  # spreads load; it guards nothing
