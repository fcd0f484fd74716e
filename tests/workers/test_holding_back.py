"""What makes workers claim nothing for a while: a drain, a pause, a full disk. What they run finishes."""

from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select

from core.ids import JobId
from db import workers
from db.tables import Attempt
from tests import synthetic
from tests.waiting import wait_until
from tests.workers import small_disk
from tests.workers.conftest import Service
from tests.workers.test_worker import begun

LOOKS = 3  # a worker that claimed all the same would have done so by then


class Held:
    """A job whose child runs until it is let go."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._go = folder / "go"
        self.id = service.submit(begun=str(folder / "begun"), until=str(self._go))
        begun(folder / "begun")

    def finish(self) -> None:
        self._go.touch()
        assert self._service.wait(self.id).status == "succeeded"
        assert [attempt.outcome for attempt in self._service.attempts(self.id)] == ["succeeded"]


@pytest.fixture
def heartbeat(tmp_path: Path) -> Path:
    return tmp_path / "heartbeat"


def start(service: Service, heartbeat: Path, **environment: str) -> None:
    """Start a worker that looks often, and in more slots than a test needs."""
    known = {"FEWBITS_POLL_SECONDS": "0.2", "FEWBITS_HEARTBEAT_FILE": str(heartbeat)}
    service.start("worker", "--pool", "cpu", "--slots", "2", **known, **environment)


def await_looks(heartbeat: Path) -> None:
    for _ in range(LOOKS):
        heartbeat.unlink(missing_ok=True)
        wait_until(heartbeat.exists)


def claims(service: Service) -> int:
    return service.database.run(lambda s: s.scalars(select(func.count()).select_from(Attempt)).one())


def submit_light(service: Service, folder: Path) -> JobId:
    """Submit work that is over as soon as it has begun: there is nothing at its source."""
    return service.submit(source=folder / "nothing")


def claimer_of(service: Service, job_id: JobId) -> str:
    """Return who claimed such work, once it is over."""
    assert service.wait(job_id).status == "failed"
    (attempt,) = service.attempts(job_id, "fetch")
    return attempt.worker_id


def test_a_drained_worker_finishes_what_it_runs_and_another_does_the_rest(
    service: Service, heartbeat: Path, tmp_path: Path
) -> None:
    start(service, heartbeat)
    held = Held(service, tmp_path)
    (drained,) = [attempt.worker_id for attempt in service.attempts(held.id)]
    service.database.run(partial(workers.drain, worker_id=drained))
    before = claims(service)
    waiting = submit_light(service, tmp_path)
    await_looks(heartbeat)
    assert claims(service) == before
    start(service, tmp_path / "heartbeat of another")
    other = claimer_of(service, waiting)
    assert other != drained
    held.finish()
    service.database.run(partial(workers.drain, worker_id=other))
    service.database.run(partial(workers.drain, worker_id=drained, claims_again=True))
    assert claimer_of(service, submit_light(service, tmp_path)) == drained


def test_a_paused_pool_finishes_what_it_runs_and_starts_nothing(
    service: Service, heartbeat: Path, tmp_path: Path
) -> None:
    start(service, heartbeat)
    held = Held(service, tmp_path)
    service.database.run(partial(workers.pause, pool="cpu"))
    before = claims(service)
    waiting = submit_light(service, tmp_path)
    held.finish()
    await_looks(heartbeat)
    assert claims(service) == before
    service.database.run(partial(workers.resume, pool="cpu"))
    assert claimer_of(service, waiting)


def test_a_worker_short_of_disk_says_so_and_claims_again_when_there_is_room(
    service: Service, heartbeat: Path, tmp_path: Path
) -> None:
    free = tmp_path / "free"

    def leave_free(size_bytes: int) -> None:
        (tmp_path / "new").write_text(str(size_bytes))
        (tmp_path / "new").replace(free)

    def complaints() -> list[str | None]:
        return [seen.worker.complaint for seen in service.database.run(workers.seen)]

    leave_free(10**15)
    modules = f"{synthetic.MODULE}:{small_disk.MODULE}"
    start(service, heartbeat, FEWBITS_METHOD_MODULES=modules, **{small_disk.FREE_BYTES_FILE: str(free)})
    held = Held(service, tmp_path)
    before = claims(service)
    leave_free(10**8)
    wait_until(lambda: complaints() != [None])
    assert "claims nothing: 100 MB are free on the disk of " in service.run("workers", "list")
    waiting = submit_light(service, tmp_path)
    held.finish()
    await_looks(heartbeat)
    assert claims(service) == before
    leave_free(10**15)
    assert claimer_of(service, waiting)
    wait_until(lambda: complaints() == [None])


def test_what_may_be_poison_runs_alone_the_last_time(service: Service, heartbeat: Path, tmp_path: Path) -> None:
    suspect = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
    for _ in range(2):
        start(service, heartbeat)
        begun(tmp_path / "begun")
        (tmp_path / "begun").unlink()
        service.processes[-1].kill()
        service.processes[-1].wait()
    start(service, heartbeat)
    begun(tmp_path / "begun")
    before = claims(service)
    beside = submit_light(service, tmp_path)
    await_looks(heartbeat)
    assert claims(service) == before
    (tmp_path / "go").touch()
    assert service.wait(suspect).status == "succeeded"
    assert [attempt.outcome for attempt in service.attempts(suspect)] == ["lost", "lost", "succeeded"]
    assert service.wait(beside).status == "failed"
