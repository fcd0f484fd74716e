"""A worker's own folder on the scratch disk, and what dead workers have left there."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.ids import ExecutionId, new_id
from core.logging import log
from db.tokens import Lease
from workers.process import end_leftover

LOCK_FILE = "lock"
PREFIX = "scratch"


@dataclass(frozen=True)
class OwnFolder:
    """A folder of this process alone, and the leases under which dead workers of this machine were at work."""

    path: Path
    abandoned: Sequence[Lease]


def execution_folder(own: Path, lease: Lease) -> Path:
    """Return where the work under a lease is done."""
    return own / f"{lease.execution_id}-{lease.token}"


@contextlib.contextmanager
def own_folder(root: Path) -> Iterator[OwnFolder]:
    """Make a folder under ``root`` that is this process's as long as it lives; end and remove those of the dead."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = root / new_id(PREFIX)
    with contextlib.ExitStack() as mine:
        # One at a time: a folder that is made but not locked yet would look like that of a dead worker.
        with _lock(root, wait=True):
            folder.mkdir(mode=0o700)
            mine.enter_context(_lock(folder))
            others = [other for other in root.glob(f"{PREFIX}_*") if other != folder]
            abandoned = [lease for other in others for lease in _clear_if_dead(other)]
        try:
            yield OwnFolder(folder, abandoned)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _clear_if_dead(folder: Path) -> list[Lease]:
    """End and remove what a dead worker left, and return its leases."""
    # Held by a living worker, or gone since: both are none of ours.
    with contextlib.suppress(BlockingIOError, FileNotFoundError), _lock(folder):
        executions = list(folder.glob("exec_*-*"))
        for execution in executions:
            end_leftover(execution)
        shutil.rmtree(folder, ignore_errors=True)
        log.info("removed what a dead worker left", folder=str(folder))
        return [_lease_of(execution) for execution in executions]
    return []


def _lease_of(folder: Path) -> Lease:
    execution_id, _, token = folder.name.rpartition("-")
    return Lease(ExecutionId(execution_id), int(token))


@contextlib.contextmanager
def _lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder's lock, which goes with the process; raises BlockingIOError where another process holds it."""
    descriptor = os.open(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
