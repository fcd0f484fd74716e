"""Child processes that end with their parent, and the leftovers of a parent that was killed.

Each child leads a process group of its own, so that a terminal's Ctrl-C reaches only the parent, and writes to a log
file itself, so that nothing is lost or blocked when the parent is gone. Refuses to know what the children are.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from core import pid_file
from core.errors import StartFailed

Pause = Callable[[float], None]
"""Waits for some seconds, or less. May raise, to break off whatever waits."""

POLL_SECONDS = 0.05
LEFTOVER_SECONDS = 10.0
KILLED_SECONDS = 10.0
LOG_LINES_SHOWN = 15


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program, and how it is asked to end.

    Args:
        name: what it is called in messages.
        argv: the program and its arguments, as ``ps`` shows them.
        environment: the whole environment.
        folder: where it runs.
        log: where its output is appended.
        record: where its pid is kept, for a next start to find what a killed parent left.
        stop_signal: asks it to end in good order.
        orphan_signal: sent by the kernel when the parent has died.
        account: words before ``argv`` that make it run as another user; see ``server.embedded.account``.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    record: Path
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    account: tuple[str, ...] = ()


class Child:
    """A started command. Make it with :func:`start_child`, from a thread that lives as long as the child may."""

    def __init__(self, command: Command, process: subprocess.Popen[bytes]) -> None:
        self.command = command
        self._process = process

    @property
    def pid(self) -> int:
        """The process, which is also its group."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Send the stop signal to the process, not to its group: how its own children end is its affair."""
        self._process.send_signal(self.command.stop_signal)

    def end(self) -> None:
        """Kill what is left of the process and of its group, and forget its pid."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(KILLED_SECONDS)
        self.command.record.unlink(missing_ok=True)


def start_child(command: Command, *, standard_input: bytes = b"") -> Child:
    """Start a command.

    Args:
        command: what to start.
        standard_input: a few lines for the program to read; they must fit a pipe's buffer (64 KiB).

    Raises:
        StartFailed: the program or a folder cannot be used.
    """
    argv = [*command.account, *_ends_with_parent(command.orphan_signal), *command.argv]
    try:
        with command.log.open("ab") as log:
            process = subprocess.Popen(
                argv,
                cwd=command.folder,
                env=command.environment,
                stdin=subprocess.PIPE if standard_input else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        raise StartFailed(f"{command.name} cannot be started: {error}") from error
    child = Child(command, process)
    try:
        pid_file.write(command.record, process.pid)
        if process.stdin:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(standard_input)
    except OSError as error:
        child.end()
        raise StartFailed(f"{command.name} cannot be started: {error}") from error
    return child


def stop_children(children: Iterable[Child], *, seconds: float, hurried: Callable[[], bool], pause: Pause) -> None:
    """Ask children to end, all at once, and kill those that have not after ``seconds``, or as soon as ``hurried()``."""
    running = list(children)
    for child in running:
        child.ask_to_stop()
    wait_for(lambda: hurried() or all(child.status is not None for child in running), seconds=seconds, pause=pause)
    for child in running:
        child.end()


def run_to_end(child: Child, *, seconds: float, pause: Pause) -> None:
    """Wait for a child that ends by itself; nothing of it is left, also when the wait is broken off.

    Raises:
        StartFailed: it failed, or took longer than ``seconds``.
    """
    try:
        wait_for(lambda: child.status is not None, seconds=seconds, pause=pause)
        status = child.status
    finally:
        child.end()
    if status is None:
        raise failure(child.command, f"did not end within {seconds:.0f} s")
    if status != 0:
        raise failure(child.command, f"ended with status {status}")


def wait_for(condition: Callable[[], bool], *, seconds: float, pause: Pause = time.sleep) -> bool:
    """Look at a condition until it holds, for at most ``seconds``. Returns whether it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        pause(POLL_SECONDS)
    return True


def failure(command: Command, what: str) -> StartFailed:
    """Return the error that shows what a child last wrote."""
    return StartFailed(f"{command.name} {what}. The end of {command.log}:\n{last_lines(command.log)}")


def last_lines(log: Path) -> str:
    """Return the end of a log, indented."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 200 * LOG_LINES_SHOWN))
        return "\n".join(f"  {line}" for line in file.read().decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
    return "  (it cannot be read)"


def end_leftover(record: Path, stop_signal: signal.Signals) -> int | None:
    """End the child that ``record`` names, if that process still runs. Returns its pid if it did."""
    process = pid_file.running(record)
    if process is not None:
        end_process(process, stop_signal)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    record.unlink(missing_ok=True)
    return None if process is None else process.pid


def end_process(process: psutil.Process, stop_signal: signal.Signals) -> None:
    """Ask a process that is not our child to end, and kill it if it has not within some seconds."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(stop_signal)
        if not wait_for(lambda: not pid_file.is_running(process), seconds=LEFTOVER_SECONDS):
            process.kill()
            wait_for(lambda: not pid_file.is_running(process), seconds=KILLED_SECONDS)


@functools.cache
def _ends_with_parent(orphan_signal: signal.Signals) -> tuple[str, ...]:
    """Return the words that make the kernel send a signal when the parent dies; none where it cannot (macOS).

    A program rather than ``preexec_fn``, which may deadlock in a process with threads.
    """
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        return ()
    words = (setpriv, "--pdeathsig", orphan_signal.name.removeprefix("SIG"))
    supported = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    return words if supported else ()
