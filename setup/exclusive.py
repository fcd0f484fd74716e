"""One set-up at a time, across processes."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[int]:
    """Holds a folder's lock, waiting for whoever holds it.

    The lock lies on the folder itself, so no lock file is left behind. It lasts until every process that has the
    descriptor is gone: pass it to children, and a set-up that was killed still keeps others out while its child writes.

    Args:
        folder: An existing folder.

    Yields:
        The descriptor that holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another set-up that uses {folder} …", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
