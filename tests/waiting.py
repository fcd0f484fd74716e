"""Waiting for a condition, instead of for a time."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Return when the condition holds; fail if it does not within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Say whether there is no such process, or only its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def arguments(pid: int) -> list[str]:
    """Return what a process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
