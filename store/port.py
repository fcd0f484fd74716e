"""What every store can do."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 1 << 20

# Called again and again while bytes are moved; what it raises breaks the work off.
Check = Callable[[], None]


def go_on() -> None:
    """Break nothing off."""


class BlobStore(Protocol):
    """Blobs under their SHA-256: written whole or not at all, never changed."""

    def put(self, path: Path, sha256: str, check: Check = go_on) -> None:
        """Store the file at ``path`` under ``sha256`` unless it is there; may take the file away.

        Raises:
            StoreFailed: it could not be written.
            StoreFull: there is no room for it.
        """

    def has(self, sha256: str) -> bool:
        """Return whether the blob is there, whole.

        Raises:
            StoreFailed: the store cannot be asked.
        """

    def read(self, sha256: str, start: int, length: int) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``start``, in pieces.

        Raises:
            StoreFailed: the blob is not there.
        """

    def materialized(
        self, blobs: Mapping[str, int], check: Check = go_on
    ) -> AbstractContextManager[Mapping[str, Path]]:
        """Give the local path of each blob, not to be written to; they stay for as long as the block runs.

        All that one piece of work needs is asked for at once: nobody then holds half of it and waits for the rest.

        Args:
            blobs: SHA-256 to size in bytes.
            check: see ``Check``.

        Raises:
            BlobLost: a blob is not there.
            StoreFailed: a blob could not be fetched, or is not what it was.
            DoesNotFit: this machine has no room for them.
        """

    def download_url(self, sha256: str, *, disposition: str) -> str | None:
        """Return an address that gives the blob to whoever has it, for some minutes; None where bytes must be read.

        Args:
            sha256: the blob.
            disposition: the header Content-Disposition that comes with it.

        Raises:
            BlobLost: the blob is not there.
            StoreFailed: the store cannot be asked.
        """

    def delete(self, sha256: str) -> None:
        """Delete the blob and what broken uploads have left of it; one that is not there is no error."""

    def check(self) -> None:
        """Prove that the store can be reached and written to.

        Raises:
            StoreFailed: it cannot.
        """
