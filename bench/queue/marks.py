"""Moments that other processes tell: each is a time of the machine's one monotonic clock, written into a named pipe."""

import fcntl
import os
import select
import struct
import time
from pathlib import Path

RECORD = struct.Struct("=q")
PIPE_BYTES = 1 << 20  # holds 131,072 moments, so that no teller waits for us
READ_BYTES = 1 << 16


class Marker:
    """The end that tells.

    Args:
        path: the named pipe.
    """

    def __init__(self, path: Path) -> None:
        self._pipe = os.open(path, os.O_WRONLY)

    def mark(self) -> None:
        """Tell that it is now. May be called in any thread: so few bytes are written at once or not at all."""
        os.write(self._pipe, RECORD.pack(time.monotonic_ns()))


class Marks:
    """The end that is told.

    Args:
        path: where the named pipe is made.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        # For writing, too: the pipe must not end when a teller does.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def close(self) -> None:
        """Close the pipe and remove its name."""
        os.close(self._pipe)
        self.path.unlink()

    def take(self) -> list[float]:
        """Return the moments told since the last call, in seconds of ``time.monotonic``."""
        told: list[float] = []
        try:
            while data := os.read(self._pipe, READ_BYTES):
                told += [nanoseconds / 1e9 for (nanoseconds,) in RECORD.iter_unpack(data)]
        except BlockingIOError:
            pass
        return told

    def next(self, timeout_seconds: float) -> float:
        """Return the next moment as soon as it is told.

        Raises:
            TimeoutError: none was.
        """
        ready, _, _ = select.select([self._pipe], [], [], timeout_seconds)
        if not ready:
            raise TimeoutError(f"nothing happened within {timeout_seconds:g} s")
        (nanoseconds,) = RECORD.unpack(os.read(self._pipe, RECORD.size))
        return float(nanoseconds / 1e9)
