"""Ctrl-C, SIGTERM and SIGHUP as a wish that is looked at between two steps, so that no step is torn in its middle.

Before the first step they end a service at once.
"""

import math
import os
import select
import signal
import time
from types import FrameType
from typing import Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ECHO_SECONDS = 0.3  # a closed terminal and its shell both send SIGHUP: that is one wish


class StopRequested(Exception):
    """The person or the system that started us wants us to stop."""


def end_at_once_if_told() -> None:
    """Have SIGTERM and Ctrl-C end this process in good order, until what it is to run takes the signals over.

    For a service alone, which is told to stop as often as not: before it has begun anything, there is nothing else to
    do. What is to be done once, such as a migration, must not exit 0 undone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not by an exception: what is imported may catch it, and nothing has been opened that would have to be closed.
        signal.signal(number, lambda _number, _frame: os._exit(os.EX_OK))


class StopSignals:
    """Counts the signals that ask for an end, from entry to exit; for the main thread."""

    def __init__(self) -> None:
        self.count = 0
        self._noted_at = -math.inf
        self._previous: dict[signal.Signals, signal._HANDLER] = {}
        self._previous_wakeup = -1
        self._read, self._write = -1, -1

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._previous_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in STOPPING:
            # nohup ignores SIGHUP for us, and that is obeyed; a shell ignores SIGINT for all that it runs behind.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._note)
        # A handler is what makes a child's end wake a pause.
        self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._read)
        os.close(self._write)

    def rest(self, seconds: float) -> None:
        """Wait for a time, or less if any signal or a child's end comes first."""
        ready, _, _ = select.select([self._read], [], [], seconds)
        if ready:
            os.read(self._read, 4096)

    def pause(self, seconds: float) -> None:
        """Wait as :meth:`rest` does.

        Raises:
            StopRequested: we are asked to stop, now or before.
        """
        if not self.count:
            self.rest(seconds)
        if self.count:
            raise StopRequested

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._noted_at > ECHO_SECONDS:
            self.count += 1
        self._noted_at = now
