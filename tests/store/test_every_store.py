"""What every store promises, against a directory and a real S3 server."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import BlobLost
from core.settings import Settings
from store.opening import open_store
from store.port import BlobStore
from tests.s3_server import S3Server
from tests.store.conftest import PART_BYTES, put, sha256

NOBODY = "0" * 64
SIZES = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES + 7]


def content_of(size_bytes: int) -> bytes:
    return (bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_what_is_put_can_be_read(store: BlobStore, tmp_path: Path, size_bytes: int) -> None:
    content = content_of(size_bytes)
    assert not store.has(sha256(content))
    name = put(store, tmp_path, content)
    assert store.has(name)
    assert b"".join(store.read(name, 0, size_bytes)) == content
    with store.materialized({name: size_bytes}) as paths:
        assert paths[name].read_bytes() == content
        assert paths[name].stat().st_mode & 0o222 == 0


def test_ranges(store: BlobStore, tmp_path: Path) -> None:
    content = content_of(3 * PART_BYTES)
    name = put(store, tmp_path, content)
    assert b"".join(store.read(name, 10, 25)) == content[10:35]
    assert b"".join(store.read(name, PART_BYTES - 1, 2)) == content[PART_BYTES - 1 : PART_BYTES + 1]
    assert b"".join(store.read(name, len(content) - 3, 100)) == content[-3:]
    assert b"".join(store.read(name, len(content), 1)) == b""


def test_a_second_put_changes_nothing(store: BlobStore, tmp_path: Path) -> None:
    name = put(store, tmp_path, b"first")
    (tmp_path / "other").write_bytes(b"other")
    store.put(tmp_path / "other", name)
    assert b"".join(store.read(name, 0, 5)) == b"first"


def test_many_put_the_same_at_once(store: BlobStore, tmp_path: Path) -> None:
    content = content_of(4 * PART_BYTES)
    name = sha256(content)

    def put_own(number: int) -> None:
        path = tmp_path / str(number)
        path.write_bytes(content)
        store.put(path, name)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(put_own, range(6)))
    assert b"".join(store.read(name, 0, len(content))) == content


def test_a_lost_blob_is_said(store: BlobStore, tmp_path: Path) -> None:
    name = put(store, tmp_path, b"some")
    store.delete(name)
    assert not store.has(name)
    with pytest.raises(BlobLost, match="lost the blob") as lost:
        list(store.read(name, 0, 1))
    assert lost.value.sha256 == name
    with pytest.raises(BlobLost) as lost, store.materialized({name: 4}):
        pass
    assert lost.value.sha256 == name
    store.delete(NOBODY)


class Unwanted(Exception):
    """Nobody wants the work any more."""


def test_a_put_that_is_broken_off_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    content = content_of(8 * PART_BYTES)
    (tmp_path / "file").write_bytes(content)
    calls = iter(range(100))

    def check() -> None:
        if next(calls) > 3:
            raise Unwanted

    with contextlib.suppress(Unwanted):  # a directory is done before it can be asked
        store.put(tmp_path / "file", sha256(content), check)
        return
    assert not store.has(sha256(content))
    store.put(tmp_path / "file", sha256(content))
    assert b"".join(store.read(sha256(content), 0, len(content))) == content


def test_a_store_that_can_be_used_says_nothing(store: BlobStore) -> None:
    store.check()
    store.check()


def test_a_store_is_opened_by_its_url(tmp_path: Path, s3_server: S3Server, subtests: pytest.Subtests) -> None:
    bucket = s3_server.bucket()
    for url in ((tmp_path / "with space").as_uri(), f"s3://{bucket}", f"s3://{bucket}/a/b"):
        with subtests.test(url=url):
            store = open_store(s3_server.settings(url, tmp_path))
            store.check()
            put(store, tmp_path, b"content")
    assert (tmp_path / "with space" / "arriving").is_dir()
    assert (s3_server.root / bucket / "blobs").is_dir()
    assert (s3_server.root / bucket / "a" / "b" / "blobs").is_dir()
    for url in ("", "relative", "file://host/x", "ftp://x/y", "s3://", "s3:///x"):
        with subtests.test(url=url), pytest.raises(ValueError, match="is no store"):
            open_store(Settings.model_construct(store_url=url))
