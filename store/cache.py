"""A node's copies of blobs, shared by all its worker processes and smaller than a limit.

::

    lock            held while it is decided what is here: pins are taken, room is made, a copy gets its place
    arriving/SHA    a copy being made by whoever holds its lock; it has its full size from the start
    blobs/SHA       whole and verified; whoever uses it holds its lock, shared

The locks are the kernel's and end with their process, so a dead worker pins nothing. Two that want the same blob
bring it once: the second waits for the first. Knows nothing of where blobs come from.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from core.errors import DoesNotFit, StoreFailed, os_error
from store.digest import sha256_of
from store.port import Check

READ_ONLY = 0o444
LOOK_SECONDS = 0.5
TRIES = 2  # what came may have been spoilt on its way

# Writes a blob into an open file: its SHA-256, its size, the file's descriptor, and what may break it off.
Bring = Callable[[str, int, int, Check], None]

_FULL = (
    "This worker's disk has no room for the step's inputs. "
    "Ask your operator for a larger disk or a larger cache (FEWBITS_CACHE_BYTES_MAX), or choose a smaller model."
)


class NodeCache:
    """Copies under ``root``, together no larger than ``bytes_max``; those used the longest ago make way."""

    def __init__(self, root: Path, bytes_max: int) -> None:
        self._root = root
        self._bytes_max = bytes_max
        self._arriving = root / "arriving"
        self._blobs = root / "blobs"

    @contextlib.contextmanager
    def holding(self, blobs: Mapping[str, int], bring: Bring, check: Check) -> Iterator[Mapping[str, Path]]:
        """Give the path of each blob, pinned for as long as the block runs.

        Waits, holding nothing, while what others use leaves no room.

        Args:
            blobs: SHA-256 to size in bytes.
            bring: how a missing one is brought.
            check: called about twice a second, and by ``bring``; may raise.

        Raises:
            DoesNotFit: they are more than the limit, or than the disk has room for.
            StoreFailed: the disk refused, or what came was twice something else.
        """
        if sum(blobs.values()) > self._bytes_max:
            raise DoesNotFit(_FULL)
        while True:
            with contextlib.ExitStack() as pins:
                if self._hold(blobs, bring, check, pins):
                    yield {sha256: self._blobs / sha256 for sha256 in blobs}
                    return
            check()
            time.sleep(LOOK_SECONDS)

    def _hold(self, blobs: Mapping[str, int], bring: Bring, check: Check, pins: contextlib.ExitStack) -> bool:
        """Pin every blob and bring those that are missing; return False where others are in the way."""
        try:
            with self._deciding():
                absent = self._pin(blobs, pins)
                self._sweep()
                others = {sha256: size for sha256, size in absent.items() if (self._arriving / sha256).exists()}
                wanted = {sha256: size for sha256, size in absent.items() if sha256 not in others}
                reserved = self._reserve(wanted, blobs, pins)
            if reserved is None:
                return False
            for sha256, descriptor in reserved.items():
                self._fill(sha256, wanted[sha256], descriptor, bring, check)
            for sha256 in others:
                self._await(sha256, check)
            with self._deciding():
                return not self._pin(others, pins)
        except OSError as error:
            what = "The step's inputs could not be brought to the worker"
            raise os_error(error, what, full=DoesNotFit(_FULL), otherwise=StoreFailed) from error

    @contextlib.contextmanager
    def _deciding(self) -> Iterator[None]:
        for folder in (self._root, self._arriving, self._blobs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(self._root / "lock", os.O_RDWR | os.O_CREAT) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def _pin(self, blobs: Mapping[str, int], pins: contextlib.ExitStack) -> Mapping[str, int]:
        """Pin what is here, and return what is not."""
        absent = {}
        for sha256, size_bytes in blobs.items():
            path = self._blobs / sha256
            try:
                descriptor = pins.enter_context(_opened(path, os.O_RDONLY))
            except FileNotFoundError:
                absent[sha256] = size_bytes
                continue
            if os.fstat(descriptor).st_size == size_bytes:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                os.utime(descriptor)  # the order in which they make way
            else:  # cut by somebody or by a crash of the machine
                path.unlink()
                absent[sha256] = size_bytes
        return absent

    def _sweep(self) -> None:
        """Remove what dead processes were bringing."""
        for path in self._arriving.iterdir():
            _unlink_unused(path)

    def _reserve(
        self, wanted: Mapping[str, int], own: Mapping[str, int], pins: contextlib.ExitStack
    ) -> Mapping[str, int] | None:
        """Make room on the disk for what is to be brought, and return the open files; None where others leave none."""
        while self._used_bytes() + sum(wanted.values()) > self._bytes_max:
            if not self._evict():
                return None
        reserved = {}
        for sha256, size_bytes in wanted.items():
            path = self._arriving / sha256
            descriptor = pins.enter_context(_opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            pins.callback(self._discard, path, descriptor)
            while not _allocate(descriptor, size_bytes):
                if not self._evict():
                    if self._names() - own.keys():
                        return None
                    raise DoesNotFit(_FULL)
            reserved[sha256] = descriptor
        return reserved

    def _evict(self) -> bool:
        """Delete the copy that was used the longest ago and is not in use; return whether there was one."""
        return any(_unlink_unused(path) for path in sorted(self._blobs.iterdir(), key=lambda p: p.stat().st_mtime_ns))

    def _used_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._files())

    def _names(self) -> set[str]:
        return {path.name for path in self._files()}

    def _files(self) -> Sequence[Path]:
        return [*self._arriving.iterdir(), *self._blobs.iterdir()]

    def _fill(self, sha256: str, size_bytes: int, descriptor: int, bring: Bring, check: Check) -> None:
        """Bring one blob, verify it, and give it its place; its lock becomes a pin."""
        for _ in range(TRIES):
            bring(sha256, size_bytes, descriptor, check)
            with open(descriptor, "rb", closefd=False) as file:
                file.seek(0)
                if sha256_of(file, check) == sha256:
                    break
        else:
            # Not deleted: it may as well be this machine that spoils what it gets.
            raise StoreFailed(
                f"The store's copy of the blob {sha256} has another content. If that is so for every worker, have your "
                "operator delete it and submit the job again: it is made anew."
            )
        os.fchmod(descriptor, READ_ONLY)
        os.fsync(descriptor)
        with self._deciding():
            (self._arriving / sha256).rename(self._blobs / sha256)
            fcntl.flock(descriptor, fcntl.LOCK_SH)

    def _discard(self, path: Path, descriptor: int) -> None:
        """Remove a reservation, unless its file has got its place as a copy."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                with self._deciding():
                    path.unlink()

    def _await(self, sha256: str, check: Check) -> None:
        """Wait until nobody brings the blob any more, whether it came or not."""
        with contextlib.suppress(FileNotFoundError), _opened(self._arriving / sha256, os.O_RDONLY) as descriptor:
            while not _try_lock(descriptor, fcntl.LOCK_SH):
                check()
                time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlink_unused(path: Path) -> bool:
    """Delete a file whose lock nobody holds; return whether it was one."""
    with _opened(path, os.O_RDONLY) as descriptor:
        if not _try_lock(descriptor, fcntl.LOCK_EX):
            return False
        path.unlink()
        return True


def _allocate(descriptor: int, size_bytes: int) -> bool:
    """Give a file its full size on the disk; return False where that is full."""
    try:
        if size_bytes:
            os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    return True
