"""Stores what a child has saved, while the child goes on: each time the newest, and of it what is new.

Refuses to know what the files mean.
"""

import shutil
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from core.errors import FewbitsError
from core.logging import log
from core.manifest import StoredFile
from db import lease as leases
from db.tokens import LeaseLost
from store.port import BlobStore
from workers.leases import HeldLease, Interrupted
from workers.protocol import ChildSpec
from workers.uploader import files_in, put_files

# Which file it is: a link to it has another path, and what takes its place is another.
Identity = tuple[int, int, int]


class CheckpointKeeper:
    """Keeps the checkpoints of one child; a thread of its own while the block runs.

    Args:
        held: of the attempt's lease.
        store: where blobs go.
        spec: the child's.
        known: the files of the checkpoint that the child was given.

    Attributes:
        kept_count: how many checkpoints were kept.
    """

    def __init__(self, held: HeldLease, store: BlobStore, spec: ChildSpec, known: Sequence[StoredFile]) -> None:
        self._held = held
        self._store = store
        self._spec = spec
        self._known: Mapping[Identity, StoredFile] = {identity(spec.checkpoint / file.name): file for file in known}
        self._newest = self._done = 0
        self._is_over = self._is_broken_off = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self.kept_count = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and break off what is being stored."""
        self._is_broken_off = True
        self.finish()

    def saved(self, number: int) -> None:
        """Hear that the child has saved for the ``number``th time."""
        with self._news:
            self._newest = number
            self._news.notify()

    def finish(self) -> None:
        """Wait until the newest that was saved is kept, or cannot be."""
        with self._news:
            self._is_over = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        while (number := self._next()) is not None:
            try:
                self._keep(self._spec.saved(number))
            except (Interrupted, LeaseLost):
                return
            except (FewbitsError, OSError, SQLAlchemyError) as error:
                log.warning("a checkpoint cannot be kept", number=number, error=str(error))
            for old in range(self._done + 1, number + 1):
                shutil.rmtree(self._spec.saved(old), ignore_errors=True)
            self._done = number

    def _next(self) -> int | None:
        """Wait for one that is new, and return its number; None once there will be no more."""
        with self._news:
            self._news.wait_for(lambda: self._is_over or self._newest > self._done)
            return self._newest if self._newest > self._done and not self._is_broken_off else None

    def _keep(self, saved: Path) -> None:
        paths = files_in(saved)
        identities = {name: identity(path) for name, path in paths.items()}
        old = {name: self._known[one] for name, one in identities.items() if one in self._known}
        copies = Path(self._spec.folder, "copies")
        try:
            for name in paths.keys() - old.keys():
                self._check()
                _copy(paths[name], copies / name)
            new = {file.name: file for file in put_files(self._held, self._store, copies, self._check)}
        finally:
            shutil.rmtree(copies, ignore_errors=True)
        files = {name: StoredFile(name, file.sha256, file.size_bytes) for name, file in {**old, **new}.items()}
        self._check()
        self._held.persist(partial(leases.keep, lease=self._held.lease, checkpoint=list(files.values())))
        self._known = {identities[name]: file for name, file in files.items()}
        self.kept_count += 1

    def _check(self) -> None:
        self._held.check()
        if self._is_broken_off:
            raise Interrupted


def identity(path: Path) -> Identity:
    """Return which file is at a path."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _copy(path: Path, copy: Path) -> None:
    """Copy what may become a blob: of that, the child must have no link by which it could write."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copy)
