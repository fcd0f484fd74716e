"""Files that name a process for whoever comes after a crash.

A pid alone proves nothing, since it may have been given to another program: the time of the start is kept with it.
"""

import contextlib
import json
from pathlib import Path

import psutil

CLOCK_TOLERANCE_SECONDS = 1.0  # psutil derives the time of a start from the clock, which may be corrected


def write(path: Path, pid: int) -> None:
    """Name a running process in ``path``, whole or not at all; one that has ended already leaves nothing to find."""
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(pid).create_time()
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": pid, "started": started}))
        fresh.replace(path)


def running(path: Path) -> psutil.Process | None:
    """Return the process that ``path`` names, if it still runs."""
    try:
        known = json.loads(path.read_text())
        process = psutil.Process(known["pid"])
        same = abs(process.create_time() - known["started"]) < CLOCK_TOLERANCE_SECONDS
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return process if same and is_running(process) else None


def is_running(process: psutil.Process) -> bool:
    """Say whether a process runs. One whose parent has not yet asked for its status does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
