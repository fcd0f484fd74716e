"""A child as its supervisor sees it: start it, hear from it, end it and all that it started."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil

from core.errors import ChildCrashed, ErrorDocument
from engines.context import Progress
from pipeline.step_kind import Outcome
from workers.protocol import LINE_BYTES_MAX, ChildSpec, Failure, decode

# All that a child may see of the worker's environment. Credentials are in none of these.
ENVIRONMENT_ALLOWED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)
POLL_SECONDS = 0.5
READ_BYTES = 1 << 16
PID_FILE = "child.pid"


class Child:
    """A running child.

    Args:
        spec: its work; the folders in it exist.
        on_progress: called with each progress it reports, in the thread that waits.
    """

    def __init__(self, spec: ChildSpec, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self._last: Outcome | Failure | None = None
        self._garbled = False
        self._messages, their_end = os.pipe()
        try:
            with spec.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "workers.child", str(their_end), str(spec.write())],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[their_end],
                    env=_environment(spec),
                    start_new_session=True,
                )
        finally:
            os.close(their_end)
        _remember(Path(spec.folder), self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.wait()
        os.close(self._messages)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """End the child's whole group at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, on_tick: Callable[[], None]) -> Outcome | ErrorDocument:
        """Wait for the child to end, and return what came of it.

        Args:
            on_tick: called about twice a second, and once at the end.
        """
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._messages, selectors.EVENT_READ)
            next_tick = time.monotonic()
            while True:
                if time.monotonic() >= next_tick:
                    on_tick()
                    next_tick = time.monotonic() + POLL_SECONDS
                readable = selector.select(timeout=POLL_SECONDS)
                piece = os.read(self._messages, READ_BYTES) if readable else b""
                rest = self._take(rest + piece)
                # A grandchild may hold the pipe open after the child itself has ended.
                if not piece and (readable or self._process.poll() is not None):
                    break
        code = self._process.wait()
        on_tick()
        if self._garbled:
            return ChildCrashed(
                "The step's process wrote something that is no message. Its log has the details."
            ).document()
        if self._last is None:
            return ChildCrashed(_describe_exit(code)).document()
        return self._last if isinstance(self._last, Outcome) else self._last.error

    def _take(self, received: bytes) -> bytes:
        *lines, rest = received.split(b"\n")
        try:
            for message in map(decode, lines):
                if isinstance(message, Progress):
                    self._on_progress(message)
                else:
                    self._last = message
        except ValueError:
            self._garbled = True
        if self._garbled or len(rest) > LINE_BYTES_MAX:
            self._garbled = True
            self.kill()
            return b""
        return rest


def end_leftover(folder: Path) -> None:
    """Kill the child that a dead worker left in ``folder``, if it still runs."""
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        pid, created = (folder / PID_FILE).read_text().split()
        if psutil.Process(int(pid)).create_time() == float(created):
            os.killpg(int(pid), signal.SIGKILL)


def _remember(folder: Path, pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        (folder / PID_FILE).write_text(f"{pid} {psutil.Process(pid).create_time()}")


def _environment(spec: ChildSpec) -> dict[str, str]:
    allowed = {name: os.environ[name] for name in ENVIRONMENT_ALLOWED if name in os.environ}
    return allowed | {
        "HOME": str(spec.scratch),
        "TMPDIR": str(spec.scratch),
        "OMP_NUM_THREADS": str(spec.threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def _describe_exit(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "The step's process was killed, most often because the machine ran out of memory. Its log has the details."
        )
    if code < 0:
        return f"The step's process was ended by {signal.Signals(-code).name}. Its log has the details."
    return f"The step's process ended with exit code {code} and no result. Its log has the details."
