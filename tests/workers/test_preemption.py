"""A worker is told to stop while a child works: what is saved is kept, and the rest is given back in time."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import select

from core.ids import JobId
from db.tables import CheckpointFile
from store.directory import DirectoryStore
from tests.s3_server import S3Server
from tests.synthetic import LAST_PIECE, PIECES
from tests.waiting import is_gone, wait_until
from tests.workers.conftest import Service
from tests.workers.test_worker import begun
from workers.collector import Collector, Keeping
from workers.departure import CHILDREN_SHARE

SHUTDOWN_SECONDS = 6
LEAVING = {"FEWBITS_SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS), "FEWBITS_POLL_SECONDS": "0.2"}
KEEPING = Keeping(garbage_grace_seconds=0, idempotency_seconds=60, history_seconds=3600)


def require_given_back(
    service: Service, job_id: JobId, worker: subprocess.Popen[bytes], pids: Mapping[str, int]
) -> None:
    """Wait for a worker to end in time, and find its work ready, as if nothing had gone wrong."""
    assert worker.wait(SHUTDOWN_SECONDS) == 0
    assert all(is_gone(pid) for pid in pids.values())
    left = service.job(job_id).steps[1].execution
    assert left is not None
    assert (left.status, left.attempt, left.failure_count, left.lost_count) == ("ready", 1, 0, 0)
    assert [attempt.outcome for attempt in service.attempts(job_id)] == ["released"]


def checkpoint(service: Service) -> Sequence[CheckpointFile]:
    return service.database.run(lambda s: s.scalars(select(CheckpointFile)).all())


def texts(store: DirectoryStore, files: Sequence[CheckpointFile]) -> Mapping[str, str]:
    with store.materialized({file.sha256: file.size_bytes for file in files}) as paths:
        return {file.name: paths[file.sha256].read_text() for file in files}


def test_a_child_that_saves_goes_on_elsewhere_from_there(service: Service, tmp_path: Path) -> None:
    first = service.start("worker", "--pool", "cpu", **LEAVING)
    job_id = service.submit(act="save", begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
    pids = begun(tmp_path / "begun")
    first.terminate()
    require_given_back(service, job_id, first, pids)
    store = DirectoryStore(service.store)
    collector = Collector(service.database, store, KEEPING)
    files = checkpoint(service)
    kept = texts(store, files)
    assert kept.keys() == {PIECES, LAST_PIECE}
    assert kept[LAST_PIECE] == f"of {pids['child']}"
    assert collector.run_once().blobs == 0

    (tmp_path / "go").touch()
    service.start("worker", "--pool", "cpu", **LEAVING)
    job = service.wait(job_id)
    assert job.status == "succeeded", job.error
    seen = service.seen(job)
    assert seen["checkpoint"] == kept
    assert seen["first_piece"] == int(kept[PIECES]) > 0
    assert [attempt.outcome for attempt in service.attempts(job_id)] == ["released", "succeeded"]
    assert not checkpoint(service)
    assert collector.run_once().blobs == len(files)
    assert not any(store.has(file.sha256) for file in files)


def test_a_child_that_stays_is_killed_and_nothing_more_is_claimed(service: Service, tmp_path: Path) -> None:
    worker = service.start("worker", "--pool", "cpu", "--slots", "1", **LEAVING)
    job_id = service.submit(act="stay", begun=str(tmp_path / "begun"), until=str(tmp_path / "never"))
    pids = begun(tmp_path / "begun")
    next_id = service.submit(label="next")
    told = time.monotonic()
    worker.terminate()
    require_given_back(service, job_id, worker, pids)
    assert time.monotonic() - told > CHILDREN_SHARE * SHUTDOWN_SECONDS
    assert not service.attempts(next_id)
    assert not checkpoint(service)


def test_a_child_that_cannot_save_begins_anew_elsewhere(service: Service, tmp_path: Path) -> None:
    first = service.start("worker", "--pool", "cpu", **LEAVING)
    job_id = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
    pids = begun(tmp_path / "begun")
    first.terminate()
    require_given_back(service, job_id, first, pids)
    assert not checkpoint(service)
    (tmp_path / "go").touch()
    service.start("worker", "--pool", "cpu", **LEAVING)
    job = service.wait(job_id)
    assert job.status == "succeeded", job.error
    assert service.seen(job)["checkpoint"] == {}


def test_a_checkpoint_that_an_attempt_fails_of_is_not_tried_again(service: Service, tmp_path: Path) -> None:
    first = service.start("worker", "--pool", "cpu", **LEAVING)
    job_id = service.submit(act="save", begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
    pids = begun(tmp_path / "begun")
    first.terminate()
    require_given_back(service, job_id, first, pids)
    assert checkpoint(service)
    (tmp_path / "begun").unlink()
    service.start("worker", "--pool", "cpu", **LEAVING)
    os.kill(begun(tmp_path / "begun")["child"], signal.SIGKILL)
    wait_until(lambda: len(service.attempts(job_id)) == 3)
    assert not checkpoint(service)
    (tmp_path / "go").touch()
    job = service.wait(job_id)
    assert job.status == "succeeded", job.error
    assert service.seen(job)["checkpoint"] == {}
    assert [attempt.outcome for attempt in service.attempts(job_id)] == ["released", "failed", "succeeded"]


def test_what_cannot_be_stored_in_time_is_given_back_without_it(
    service: Service, s3_server: S3Server, tmp_path: Path
) -> None:
    known = s3_server.environment(s3_server.bucket()) | {"FEWBITS_CACHE_ROOT": str(tmp_path / "cache")}
    worker = service.start("worker", "--pool", "cpu", **LEAVING, **known)
    job_id = service.submit(act="save", begun=str(tmp_path / "begun"), until=str(tmp_path / "never"))
    pids = begun(tmp_path / "begun")
    s3_server.stop()
    try:
        worker.terminate()
        require_given_back(service, job_id, worker, pids)
    finally:
        s3_server.start()
    assert not checkpoint(service)
