"""The whole stack for the length of a `with` block: `fewbitsd up` in a process of its own.

Whatever ends the block, also Ctrl-C at any moment, nothing that was started is left running.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

_READY_SECONDS = 180.0
_STOP_SECONDS = 60.0
_COMPLAINT_LINES = 40
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StackFailed(Exception):
    """The stack did not start; the message holds what it said."""


class Stack:
    """Starts the stack when entered, and stops it when left.

    Args:
        data: an empty folder for everything it keeps.
        sources: the folder whose models it may read.

    Attributes:
        url: where the API is.
        api_key: a key for it.
    """

    def __init__(self, data: Path, sources: Path) -> None:
        self._data = data
        self._command = [
            str(Path(sys.executable).parent / "fewbitsd"),
            *("up", "--json", "--data", str(data / "stack"), "--port", "0", "--sources", str(sources)),
        ]
        self._said = data / "stack.log"
        self._process: subprocess.Popen[str] | None = None
        self._endings = _Endings()
        self.url = ""
        self.api_key = ""

    def __enter__(self) -> Self:
        try:
            with self._endings.held():
                self._process = self._start()
            self._read_address(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def complaint(self) -> str:
        """Return the last of what the stack said on stderr."""
        return "\n".join(self._said.read_text(errors="replace").splitlines()[-_COMPLAINT_LINES:])

    def _start(self) -> subprocess.Popen[str]:
        # Settings of a production stack in this shell are not meant for the demo's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FEWBITS_")}
        try:
            with self._said.open("w") as said:
                # A session of its own: a terminal's Ctrl-C reaches only us, and we stop the stack in order.
                return subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    text=True,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise StackFailed(f"cannot run {self._command[0]}: {error.strerror}; `make setup` installs it") from None

    def _read_address(self, process: subprocess.Popen[str]) -> None:
        """Read the one line that the stack prints when it is ready."""
        late = threading.Timer(_READY_SECONDS, process.terminate)
        late.start()
        try:
            line = process.stdout.readline() if process.stdout else ""
        finally:
            late.cancel()
        try:
            ready = json.loads(line)
            self.url, self.api_key = ready["url"], ready["api_key"]
        except (ValueError, KeyError, TypeError):
            self._stop()
            status = process.returncode
            raise StackFailed(f"the stack did not start (status {status}):\n{line}{self.complaint()}") from None

    def _stop(self) -> None:
        """End the stack in order, or by force where it does not listen."""
        process = self._process
        if process is None:
            return
        with self._endings.held():
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout:
                process.stdout.close()
            self._process = None


class _Endings:
    """Ctrl-C, SIGTERM and a closed terminal: each raises KeyboardInterrupt, though not while held."""

    def __init__(self) -> None:
        self._depth = 0
        self._pending = False
        for number in _ENDINGS:
            signal.signal(number, self._arrived)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let an ending that comes within the block wait until the block is over."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._pending and not self._depth:
            self._pending = False
            raise KeyboardInterrupt

    def _arrived(self, _number: int, _frame: FrameType | None) -> None:
        if self._depth:
            self._pending = True
            return
        raise KeyboardInterrupt
