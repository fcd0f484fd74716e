"""Postgres goes away while a child is at work, or is away when a worker starts: all goes on when it is back."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import workers
from db.session import Database
from server.embedded.child import Child, stop_children
from server.embedded.postgres import Postgres
from server.migrate import upgrade
from tests.waiting import is_gone, wait_until
from tests.workers.conftest import LEASE_SECONDS, Service
from tests.workers.test_worker import begun


class Outage:
    """A Postgres that can be taken away and brought back on the same port."""

    def __init__(self, folder: Path) -> None:
        self.postgres = Postgres(folder, "a-password", durable=False)
        self.postgres.prepare()
        self.child: Child | None = None

    def over(self) -> None:
        self.child = self.postgres.start()
        self.postgres.wait_until_ready(self.child)

    def begins(self) -> None:
        if self.child is not None:
            stop_children([self.child], seconds=10, hurried=lambda: False, pause=time.sleep)


@pytest.fixture
def outage(tmp_path: Path) -> Iterator[Outage]:
    outage = Outage(tmp_path / "postgres")
    outage.over()
    yield outage
    outage.begins()


@pytest.fixture
def shaken(outage: Outage, broker_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service on the Postgres that goes away."""
    upgrade(outage.postgres.url)
    database = Database(outage.postgres.url)
    service = Service(database, outage.postgres.url, broker_url, tmp_path)
    yield service
    service.stop()
    database.dispose()


def test_work_survives_an_outage_of_postgres(shaken: Service, outage: Outage, tmp_path: Path) -> None:
    shaken.start("rescue")
    shaken.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job_id = shaken.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
    pids = begun(tmp_path / "begun")
    outage.begins()
    (tmp_path / "go").touch()
    wait_until(lambda: is_gone(pids["child"]) and "cannot be written down yet" in said_by_worker(tmp_path))
    lease_over = time.monotonic() + LEASE_SECONDS
    wait_until(lambda: time.monotonic() > lease_over)
    outage.over()
    job = shaken.wait(job_id)
    assert job.status == "succeeded", job.error
    assert job.steps[1].execution is not None
    assert job.steps[1].execution.attempt == 1


def test_a_worker_that_is_started_during_an_outage_waits(shaken: Service, outage: Outage, tmp_path: Path) -> None:
    job_id = shaken.submit()
    shaken.database.dispose()  # our own connections would not survive it
    outage.begins()
    worker = shaken.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    wait_until(lambda: "needed to start cannot be reached" in said_by_worker(tmp_path))
    outage.over()
    assert shaken.wait(job_id).status == "succeeded"
    assert worker.poll() is None


def test_a_worker_that_waits_for_postgres_beats_and_leaves_when_told(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    nowhere = "postgresql://u:p@127.0.0.1:1/x"
    worker = service.start("worker", "--pool", "cpu", FEWBITS_DATABASE_URL=nowhere, FEWBITS_HEARTBEAT_FILE=str(file))
    for _ in range(2):
        wait_until(file.exists)
        file.unlink()
    worker.terminate()
    assert worker.wait(15) == 0
    assert [path.name for path in service.scratch.iterdir()] == ["lock"]


def test_a_worker_that_has_just_begun_leaves_when_told(service: Service) -> None:
    """Between its first word to Postgres and the first of Celery to the broker nobody but us would hear a signal."""
    worker = service.start("worker", "--pool", "cpu")
    wait_until(lambda: bool(service.database.run(workers.seen)))
    worker.terminate()
    assert worker.wait(15) == 0
    (seen,) = service.database.run(workers.seen)
    assert seen.worker.stopped_at is not None


def said_by_worker(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*-worker.log"))
