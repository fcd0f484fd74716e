"""The SHA-256 of a file that may be large."""

import hashlib
from typing import BinaryIO

from store.port import CHUNK_BYTES, Check


def sha256_of(file: BinaryIO, check: Check) -> str:
    """Return the SHA-256 of what follows in ``file``, in hex; ``check`` may break it off."""
    digest = hashlib.sha256()
    while piece := file.read(CHUNK_BYTES):
        digest.update(piece)
        check()
    return digest.hexdigest()
