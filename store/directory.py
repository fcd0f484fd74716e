"""A store in a directory: ``blobs/ab/ab12…``, each file written elsewhere, synced, and renamed into place."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from core.durable import sync
from core.errors import BlobLost, FewbitsError, StoreFailed, StoreFull, os_error
from store.port import CHUNK_BYTES, Check, go_on

READ_ONLY = 0o444


class DirectoryStore:
    """Blobs as read-only files under ``root``; the port's promises are in ``store.port.BlobStore``."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._arriving = root / "arriving"

    def put(self, path: Path, sha256: str, check: Check = go_on) -> None:
        """Move the file into the store, or copy it where it lies on another file system."""
        if self.has(sha256):
            return
        target = self._path(sha256)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._arriving.mkdir(parents=True, exist_ok=True)
            path.chmod(READ_ONLY)
            sync(path)
            try:
                path.rename(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy(path, target)
            sync(target.parent)
            sync(self._blobs)  # which may have got a new folder
        except OSError as error:
            raise _store_error(f"{path.name} could not be stored", error) from error

    def has(self, sha256: str) -> bool:
        """Return whether the blob is there; the rename made it whole."""
        return self._path(sha256).is_file()

    def read(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        """Yield the bytes, at most a megabyte at a time."""
        with self._existing(sha256).open("rb") as file:
            file.seek(start)
            while length > 0 and (piece := file.read(min(length, CHUNK_BYTES))):
                length -= len(piece)
                yield piece

    @contextlib.contextmanager
    def materialized(self, blobs: Mapping[str, int], check: Check = go_on) -> Iterator[Mapping[str, Path]]:
        """Give the blobs' own paths: nothing is copied, and nothing that is in use is ever collected."""
        yield {sha256: self._existing(sha256) for sha256 in blobs}

    def download_url(self, sha256: str, *, disposition: str) -> None:
        """A folder has no address for others."""

    def delete(self, sha256: str) -> None:
        """Remove the file."""
        self._path(sha256).unlink(missing_ok=True)

    def check(self) -> None:
        """Make the folder and see that it can be written to."""
        try:
            self._arriving.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _store_error("The store cannot be used", error) from error
        if not os.access(self._arriving, os.W_OK | os.X_OK):
            raise StoreFailed(f"The store's folder {self._arriving} cannot be written to.")

    def _path(self, sha256: str) -> Path:
        return self._blobs / sha256[:2] / sha256

    def _existing(self, sha256: str) -> Path:
        path = self._path(sha256)
        if not path.is_file():
            raise BlobLost(sha256)
        return path

    def _copy(self, source: Path, target: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._arriving)
        os.close(descriptor)
        arriving = Path(name)
        try:
            shutil.copyfile(source, arriving)
            arriving.chmod(READ_ONLY)
            sync(arriving)
            arriving.rename(target)
        finally:
            arriving.unlink(missing_ok=True)


def _store_error(what: str, error: OSError) -> FewbitsError:
    return os_error(error, what, full=StoreFull(what), otherwise=StoreFailed)
