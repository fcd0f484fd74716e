"""What a folder takes on its disk, and the most that it was seen to take."""

import contextlib
import os
import time
from pathlib import Path

BLOCK_BYTES = 512  # what ``st_blocks`` counts in, whatever the disk does
WALK_SHARE = 0.02  # of the time, at most, goes into walks: a folder of very many files is looked at less often


class DiskWatch:
    """Looks at a folder now and then.

    Attributes:
        peak_bytes: the most that was seen; None before the first look.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next_look = 0.0
        self.peak_bytes: int | None = None

    def look_if_due(self) -> None:
        """Look, unless that has taken too much of the time lately."""
        if time.monotonic() >= self._next_look:
            self.look()

    def look(self) -> None:
        """Look now."""
        began = time.monotonic()
        self.peak_bytes = max(self.peak_bytes or 0, disk_bytes(self._folder))
        ended = time.monotonic()
        self._next_look = ended + (ended - began) / WALK_SHARE


def disk_bytes(folder: Path) -> int:
    """Return what the files below a folder take on the disk, those with several links once, and what is linked to not.

    What vanishes while this looks is left out.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    waiting = [os.fspath(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif not entry.is_symlink():
                    with contextlib.suppress(OSError):
                        total += _new_bytes(entry.stat(follow_symlinks=False), seen)
    return total


def _new_bytes(found: os.stat_result, seen: set[tuple[int, int]]) -> int:
    """Return what a file takes, or nothing where another link to it has been seen."""
    if found.st_nlink > 1:
        identity = (found.st_dev, found.st_ino)
        if identity in seen:
            return 0
        seen.add(identity)
    return found.st_blocks * BLOCK_BYTES
