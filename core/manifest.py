"""The files an artifact is made of: a value shared by the store, the tables and the API."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class StoredFile:
    """A file whose bytes are a blob.

    Attributes:
        name: relative to the artifact, with ``/`` between folders.
        sha256: of its bytes, in lower-case hex; the blob's name.
        size_bytes: its length.
    """

    name: str
    sha256: str
    size_bytes: int


def manifest_digest(files: Iterable[StoredFile]) -> str:
    """Return the SHA-256, in hex, of the manifest: the files by name, as canonical JSON."""
    manifest = [{"name": file.name, "bytes": file.size_bytes, "sha256": file.sha256} for file in sorted(files)]
    return hashlib.sha256(canonical_json(manifest)).hexdigest()


def canonical_json(value: object) -> bytes:
    """Return the one spelling of a JSON value that digests are taken of: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
