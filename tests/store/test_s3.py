"""The S3 store alone: refusals, broken and killed uploads, an endpoint that is away, addresses to download from."""

import dataclasses
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from core.errors import BlobLost, StoreFailed
from store.cache import NodeCache
from store.parts import PARTS_MAX, split
from store.s3 import S3Store
from store.s3_access import S3Access
from tests.conftest import REPOSITORY
from tests.s3_server import S3Server
from tests.store.conftest import CACHE_BYTES_MAX, PART_BYTES, QUICK, put, sha256

CONTENT = bytes(range(256)) * (4 * PART_BYTES // 256)
SHA256 = sha256(CONTENT)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[S3Server]:
    """A server that the test may stop."""
    server = S3Server(tmp_path)
    server.start()
    yield server
    server.stop()


def open_s3(access: S3Access, bucket: str, folder: Path, patience_seconds: float = 0) -> S3Store:
    transfer = dataclasses.replace(QUICK, patience_seconds=patience_seconds)
    return S3Store(bucket, "p", access, NodeCache(folder / "cache", CACHE_BYTES_MAX), transfer)


def test_parts_cover_a_blob_of_any_size() -> None:
    assert split(0, 10) == []
    assert [(part.number, part.start, part.length) for part in split(25, 10)] == [(1, 0, 10), (2, 10, 10), (3, 20, 5)]
    largest = split(5 * 2**40, 32 * 2**20)
    assert len(largest) <= PARTS_MAX
    assert sum(part.length for part in largest) == 5 * 2**40


def test_keys_that_are_not_known_are_refused(s3_server: S3Server, tmp_path: Path, subtests: pytest.Subtests) -> None:
    bucket = s3_server.bucket()
    wrong = {
        "secret": dataclasses.replace(s3_server.access, secret_access_key="x" * 40),
        "id": dataclasses.replace(s3_server.access, access_key_id="x" * 20),
    }
    for name, access in wrong.items():
        store = open_s3(access, bucket, tmp_path)
        with subtests.test(name):
            with pytest.raises(StoreFailed, match="cannot be used: the store answers") as refused:
                store.check()
            assert access.secret_access_key not in refused.value.message
            with pytest.raises(StoreFailed, match="answers 403"):
                put(store, tmp_path, CONTENT)
            with pytest.raises(StoreFailed, match="the store answers") as refused:
                list(store.read(SHA256, 0, 1))
            assert not isinstance(refused.value, BlobLost)


def test_a_bucket_that_is_away_has_lost_nothing(s3_server: S3Server, tmp_path: Path) -> None:
    store = open_s3(s3_server.access, "nobody-has-this", tmp_path)
    with pytest.raises(StoreFailed, match="cannot be used"):
        store.check()
    with pytest.raises(StoreFailed) as failed:
        store.download_url(SHA256, disposition="attachment")
    assert not isinstance(failed.value, BlobLost)


UPLOAD = """
import os, sys
from pathlib import Path
from store.cache import NodeCache
from store.parts import Transfer
from store.s3 import S3Store
from store.s3_access import S3Access

endpoint, key, secret, bucket, path, sha256 = sys.argv[1:]
calls = iter(range(100))

def check():
    if next(calls) == 4:
        print("begun", flush=True)
        sys.stdin.read()

access = S3Access(endpoint, "", "us-east-1", key, secret)
store = S3Store(bucket, "p", access, NodeCache(Path("none"), 1), Transfer(part_bytes=65536, parts_at_once=1))
store.put(Path(path), sha256, check)
"""


def test_a_killed_upload_leaves_nothing_visible_and_is_cleared(s3_server: S3Server, tmp_path: Path) -> None:
    bucket = s3_server.bucket()
    (tmp_path / "file").write_bytes(CONTENT)
    access = s3_server.access
    known = [access.endpoint_url, access.access_key_id, access.secret_access_key, bucket, tmp_path / "file", SHA256]
    process = subprocess.Popen(
        [sys.executable, "-c", UPLOAD, *map(str, known)], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGKILL)
    store = open_s3(access, bucket, tmp_path)
    assert len(unfinished(s3_server, bucket)) == 1
    assert not store.has(SHA256)
    assert put(store, tmp_path, CONTENT) == SHA256
    assert b"".join(store.read(SHA256, 0, len(CONTENT))) == CONTENT
    store.delete(SHA256)
    assert unfinished(s3_server, bucket) == []
    assert not store.has(SHA256)


def unfinished(server: S3Server, bucket: str) -> list[str]:
    listed = server.client.list_multipart_uploads(Bucket=bucket)
    return [upload["Key"] for upload in listed.get("Uploads", [])]


class Unwanted(Exception):
    """Nobody wants the work any more."""


def test_an_upload_that_is_broken_off_is_aborted(s3_server: S3Server, tmp_path: Path) -> None:
    bucket = s3_server.bucket()
    store = open_s3(s3_server.access, bucket, tmp_path)
    store.check()  # rclone lists uploads only of a bucket that has had one

    def check() -> None:
        if unfinished(s3_server, bucket):
            raise Unwanted

    (tmp_path / "file").write_bytes(CONTENT)
    with pytest.raises(Unwanted):
        store.put(tmp_path / "file", SHA256, check)
    assert unfinished(s3_server, bucket) == []


def test_an_endpoint_that_is_away_is_waited_for(own_server: S3Server, tmp_path: Path) -> None:
    store = open_s3(own_server.access, own_server.bucket(), tmp_path, patience_seconds=60)
    own_server.stop()
    asked = threading.Event()
    (tmp_path / "file").write_bytes(CONTENT)
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(store.put, tmp_path / "file", SHA256, asked.set)
        assert asked.wait(10)
        own_server.start()
        put.result(60)
    assert store.has(SHA256)


def test_an_endpoint_that_stays_away_is_said(own_server: S3Server, tmp_path: Path) -> None:
    store = open_s3(own_server.access, own_server.bucket(), tmp_path)
    own_server.stop()
    with pytest.raises(StoreFailed, match="cannot be reached") as failed:
        put(store, tmp_path, CONTENT)
    assert own_server.access.endpoint_url not in failed.value.message
    with pytest.raises(StoreFailed, match="cannot be reached"), store.materialized({SHA256: len(CONTENT)}):
        pass
    with pytest.raises(StoreFailed, match="cannot be reached"):
        store.check()
    own_server.start()
    store.check()


def test_an_address_gives_the_blob_to_whoever_has_it(s3_server: S3Server, tmp_path: Path) -> None:
    access = dataclasses.replace(s3_server.access, public_endpoint_url="https://files.example.org")
    bucket = s3_server.bucket()
    put(open_s3(access, bucket, tmp_path), tmp_path, CONTENT)
    url = urlsplit(open_s3(access, bucket, tmp_path).download_url(SHA256, disposition="attachment"))
    assert (url.scheme, url.netloc) == ("https", "files.example.org")
    assert 0 < int(parse_qs(url.query)["X-Amz-Expires"][0]) <= 600
    assert access.secret_access_key not in url.query
    here = open_s3(s3_server.access, bucket, tmp_path).download_url(SHA256, disposition='attachment; filename="a b"')
    answer = httpx.get(here, headers={"Range": "bytes=256-511"}, trust_env=False)
    assert answer.content == CONTENT[256:512]
    assert answer.headers["content-disposition"] == 'attachment; filename="a b"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert httpx.get(here.replace(SHA256, "0" * 64), trust_env=False).status_code == 403


def test_a_lost_blob_has_no_address(s3_store: S3Store) -> None:
    with pytest.raises(BlobLost):
        s3_store.download_url(SHA256, disposition="attachment")
