"""What the user sees: which part runs, for how long, and where to look when it fails. Commands print to a log."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from setup.problems import SetupError

QUIET_SECONDS = 60  # where there is no terminal, a sign of life this often
TAIL_LINES = 15
END_SECONDS = 10
COUNTER = re.compile(rb"^ *(\[\d+/\d+\])", re.MULTILINE)  # ninja's, at the start of each line it prints


class Steps:
    """The numbered parts of a set-up, one after the other."""

    def __init__(self, total: int, log_path: Path) -> None:
        self._total = total
        self._log_path = log_path
        self._number = 0
        self._began = self._spoke = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._line = ""
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log_path.write_bytes(b"")

    def begin(self, what: str, expected: str) -> None:
        """Starts the next part.

        Args:
            what: What is done, in the -ing form.
            expected: About how long it takes.
        """
        self._number += 1
        self._began = self._spoke = time.monotonic()
        self._line = f"[{self._number}/{self._total}] {what} ({expected})"
        print(self._line, end="" if self._terminal else "\n", flush=True)

    def done(self) -> None:
        """Ends the part that runs, saying how long it took."""
        if self._terminal:
            print(f"\r\033[K{self._line} … {self._elapsed()}", flush=True)
        else:
            print(f"      done in {self._elapsed()}", flush=True)

    def run(
        self, command: Sequence[str | Path], environment: Mapping[str, str], *, keep_open: Sequence[int] = ()
    ) -> None:
        """Runs a command to its end, in a process group of its own that ends with this one.

        Args:
            command: The program and its arguments.
            environment: Its environment variables.
            keep_open: Descriptors that it inherits (locks).

        Raises:
            SetupError: It failed; the message holds the last lines it printed.
        """
        arguments = [str(part) for part in command]
        with self._log_path.open("ab") as log:
            log.write(f"$ {shlex.join(arguments)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=keep_open,
                start_new_session=True,
            )
            try:
                self._watch(process)
            except BaseException:
                _end(process)
                raise
        if process.returncode != 0:
            raise SetupError(self._failure(arguments, process.returncode))

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while True:
            try:
                process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                self._show_elapsed()
            else:
                return

    def _show_elapsed(self) -> None:
        now = time.monotonic()
        if self._terminal:
            print(f"\r\033[K{self._line} … {self._elapsed()} {self._counter()}", end="", flush=True)
        elif now - self._spoke >= QUIET_SECONDS:
            self._spoke = now
            print(f"      {self._elapsed()} {self._counter()}".rstrip(), flush=True)

    def _elapsed(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self._began), 60)
        return f"{minutes}:{seconds:02}"

    def _counter(self) -> str:
        with self._log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 16384))
            counters = COUNTER.findall(log.read())
        return counters[-1].decode() if counters else ""

    def _failure(self, arguments: Sequence[str], code: int) -> str:
        lines = self._log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        tail = "\n".join(f"  {line[:200]}" for line in lines)
        name = shlex.join(arguments[:4])
        return f"{name} … failed with exit status {code}. Its last lines:\n{tail}\nAll of it: {self._log_path}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command with all its children, politely first."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            continue
