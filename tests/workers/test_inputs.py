"""What a worker does with its inputs where the store is S3: pins what a child reads, and notes what is lost."""

import contextlib
import fcntl
import json
import os
import signal
from pathlib import Path

import pytest

from tests.s3_server import S3Server
from tests.waiting import wait_until
from tests.workers.conftest import Service


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.bucket()


@pytest.fixture
def copies(service: Service, s3_server: S3Server, bucket: str, tmp_path: Path) -> Path:
    """The folder of copies of a worker that has begun."""
    cache = tmp_path / "cache"
    known = s3_server.environment(bucket) | {"FEWBITS_CACHE_ROOT": str(cache), "FEWBITS_POLL_SECONDS": "0.2"}
    service.start("worker", "--pool", "cpu", **known)
    return cache / "blobs"


def is_pinned(path: Path) -> bool:
    with path.open("rb") as file, contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    return True


def test_inputs_are_pinned_while_a_child_reads_them(service: Service, copies: Path, tmp_path: Path) -> None:
    job_id = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
    wait_until((tmp_path / "begun").exists, seconds=60)
    assert all(is_pinned(path) for path in copies.iterdir())
    assert len(list(copies.iterdir())) == 6
    (tmp_path / "go").touch()
    assert service.wait(job_id).status == "succeeded"
    wait_until(lambda: not any(is_pinned(path) for path in copies.iterdir()))


def test_a_lost_input_is_said_and_noted(
    service: Service, copies: Path, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    job_id = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "never"))
    wait_until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").stat().st_size > 0, seconds=60)
    client = s3_server.client
    for stored in client.list_objects_v2(Bucket=bucket)["Contents"]:
        client.delete_object(Bucket=bucket, Key=stored["Key"])
    for copy in copies.iterdir():
        copy.unlink()
    os.kill(json.loads((tmp_path / "begun").read_text())["child"], signal.SIGKILL)
    job = service.wait(job_id)
    assert job.error is not None
    assert job.error["code"] == "blob_lost"
    fetched = job.steps[0].execution
    assert fetched is not None
    assert fetched.lost_at is not None
