"""A CPU and a GPU worker, each on a machine of its own: they share nothing but Postgres, the broker and S3."""

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from db import keys
from db.session import Database
from fewbits_client import Client
from server.embedded.ports import free_port
from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import BIN, STOP_SECONDS
from tests.s3_server import S3Server
from tests.waiting import wait_until


class Cluster:
    """The processes of a cluster. A machine is a folder that only its own worker is told of."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("FEWBITS_")}
        self._environment |= environment | {"FEWBITS_API_PORT": str(port)}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **environment: str) -> None:
        """Start ``fewbitsd`` with ``arguments``."""
        with (self._folder / f"{'-'.join(arguments)}.log").open("wb") as log:
            process = subprocess.Popen(
                [BIN / "fewbitsd", *arguments],
                env=self._environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)

    def start_worker(self, pool: str) -> Path:
        """Start the worker of a pool on a machine of its own, and return its folder."""
        machine = self._folder / pool
        self.start(
            *("worker", "--pool", pool),
            FEWBITS_CACHE_ROOT=str(machine / "cache"),
            FEWBITS_SCRATCH_ROOT=str(machine / "scratch"),
        )
        return machine

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", trust_env=False).is_success
        return False

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        try:
            assert [process.wait(STOP_SECONDS) for process in self._processes] == [0] * len(self._processes)
        finally:
            for process in self._processes:
                process.kill()


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.bucket()


@pytest.fixture
def cluster(database_url: str, broker_url: str, s3_server: S3Server, bucket: str, tmp_path: Path) -> Iterator[Cluster]:
    known = {
        "FEWBITS_DATABASE_URL": database_url,
        "FEWBITS_BROKER_URL": broker_url,
        "FEWBITS_SOURCE_ROOTS": str(TINY_LLAMA),
    }
    cluster = Cluster(tmp_path, known | s3_server.environment(bucket))
    yield cluster
    cluster.stop()


@pytest.mark.slow
def test_workers_that_share_no_folder_do_a_job_together(
    cluster: Cluster, database: Database, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    _, key = database.run(lambda session: keys.create_key(session, "one", ""))
    for name in ("api", "dispatch", "rescue"):
        cluster.start(name)
    machines = [cluster.start_worker(pool) for pool in ("cpu", "gpu")]
    wait_until(cluster.is_ready, seconds=60)

    with Client(cluster.url, key) as client:
        job = client.wait(client.submit(TINY_LLAMA.as_uri(), "gguf:Q8_0", windows=1)["id"])
        assert job["status"] == "succeeded", job["error"]
        artifact, _ = client.artifacts(job["id"])
        path, *documents = client.download(job["id"], tmp_path / "got")
    assert sha256(path) == artifact["files"][0]["sha256"]

    listed = s3_server.client.list_objects_v2(Bucket=bucket, Prefix="some/prefix/")["Contents"]
    stored = {entry["Key"].rpartition("/")[2] for entry in listed}
    assert {sha256(one) for one in (path, *documents)} <= stored
    for machine in machines:
        cached = list((machine / "cache" / "blobs").iterdir())
        assert cached
        assert all(sha256(blob) == blob.name for blob in cached)
        assert {blob.name for blob in cached} <= stored
        # What a machine was told of is all that was written: there is no third folder that both could see.
        assert {folder.name for folder in machine.iterdir()} == {"cache", "scratch"}
    assert {folder.name for folder in tmp_path.iterdir() if folder.is_dir()} == {"cpu", "gpu", "got"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
