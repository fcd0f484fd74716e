"""What every store can do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 1 << 20


class BlobStore(Protocol):
    """Blobs under their SHA-256: written whole or not at all, never changed."""

    def put(self, path: Path, sha256: str) -> None:
        """Store the file at ``path`` under ``sha256`` unless it is there; may take the file away.

        Raises:
            StoreFailed: it could not be written.
            DoesNotFit: the store is full.
        """

    def has(self, sha256: str) -> bool:
        """Return whether the blob is there, whole."""

    def read(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``start``, in pieces.

        Raises:
            StoreFailed: the blob is not there.
        """

    def materialize(self, sha256: str) -> Path:
        """Return a local path that holds the blob, not to be written to.

        Raises:
            BlobLost: the blob is not there.
        """

    def delete(self, sha256: str) -> None:
        """Delete the blob; one that is not there is no error."""

    def check(self) -> None:
        """Prove that the store can be reached.

        Raises:
            StoreFailed: it cannot.
        """
