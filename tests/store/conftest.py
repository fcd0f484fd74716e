import hashlib
from pathlib import Path

import pytest

from store.cache import NodeCache
from store.directory import DirectoryStore
from store.parts import Transfer
from store.port import BlobStore
from store.s3 import S3Store
from tests.s3_server import S3Server

PART_BYTES = 64 * 1024
CACHE_BYTES_MAX = 2**20
QUICK = Transfer(part_bytes=PART_BYTES, parts_at_once=4, patience_seconds=0)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(store: BlobStore, folder: Path, content: bytes) -> str:
    """Store some bytes as a worker does, and return their name."""
    path = folder / "arriving"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    store.put(path, sha256(content))
    return sha256(content)


@pytest.fixture
def s3_store(s3_server: S3Server, tmp_path: Path) -> S3Store:
    cache = NodeCache(tmp_path / "cache", CACHE_BYTES_MAX)
    return S3Store(s3_server.bucket(), "some/prefix", s3_server.access, cache, QUICK)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Every store there is, one after the other."""
    if request.param == "directory":
        return DirectoryStore(tmp_path / "store")
    s3_store: S3Store = request.getfixturevalue("s3_store")
    return s3_store
