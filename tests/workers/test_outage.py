"""Postgres goes away while a child is at work: the child goes on, and its result is committed when Postgres is back."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_work_survives_an_outage_of_postgres(outage: Outage, broker_url: str, tmp_path: Path) -> None:
    upgrade(outage.postgres.url)
    database = Database(outage.postgres.url)
    service = Service(database, outage.postgres.url, broker_url, tmp_path)
    try:
        service.start("rescue")
        service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
        job_id = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
        pids = begun(tmp_path / "begun")
        outage.begins()
        (tmp_path / "go").touch()
        wait_until(lambda: is_gone(pids["child"]) and "cannot be written down yet" in said_by_worker(tmp_path))
        lease_over = time.monotonic() + LEASE_SECONDS
        wait_until(lambda: time.monotonic() > lease_over)
        outage.over()
        job = service.wait(job_id)
        assert job.status == "succeeded", job.error
        assert job.steps[1].execution is not None
        assert job.steps[1].execution.attempt == 1
    finally:
        service.stop()
        database.dispose()


def said_by_worker(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*-worker.log"))
