"""A worker's own folder on the scratch disk, and what dead workers have left there."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from core.ids import new_id
from core.logging import log
from workers.process import end_leftover

LOCK_FILE = "lock"


@contextlib.contextmanager
def own_folder(root: Path) -> Iterator[Path]:
    """Make a folder under ``root`` that is this process's as long as it lives; end and remove those of the dead."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = root / new_id("scratch")
    with contextlib.ExitStack() as mine:
        # One at a time: a folder that is made but not locked yet would look like that of a dead worker.
        with _lock(root, wait=True):
            folder.mkdir(mode=0o700)
            mine.enter_context(_lock(folder))
            for other in root.iterdir():
                if other != folder and other.is_dir():
                    _clear_if_dead(other)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _clear_if_dead(folder: Path) -> None:
    # Held by a living worker, or gone since: both are none of ours.
    with contextlib.suppress(BlockingIOError, FileNotFoundError), _lock(folder):
        for execution in folder.iterdir():
            end_leftover(execution)
        shutil.rmtree(folder, ignore_errors=True)
        log.info("removed what a dead worker left", folder=str(folder))


@contextlib.contextmanager
def _lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder's lock, which goes with the process; raises BlockingIOError where another process holds it."""
    descriptor = os.open(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
