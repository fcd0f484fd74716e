"""A real worker with real children: what comes out, what it may see, and what is left when something dies."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from redis import Redis

from db import jobs, logs
from tests.waiting import is_gone, wait_until
from tests.workers.conftest import Service


def begun(path: Path) -> dict[str, int]:
    """Wait for a synthetic child to say who it is."""
    wait_until(lambda: path.exists() and path.stat().st_size > 0, seconds=60)
    pids: dict[str, int] = json.loads(path.read_text())
    return pids


def test_a_job_is_done_and_nothing_is_left_behind(service: Service) -> None:
    job_id = service.submit(act="chatter")
    service.start("worker", "--pool", "cpu", FEWBITS_RETRY_BACKOFF_SECONDS="3", SECRET_OF_THE_OPERATOR="x")
    job = service.wait(job_id)
    assert job.status == "succeeded", job.error
    seen = service.seen(job)
    assert seen["files"] == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert not [name for name in seen["environment"] if name.startswith("FEWBITS") or "SECRET" in name]
    assert seen["environment"]["TRITON_CACHE_DIR"] == str(service.cache / "kernels" / "triton")
    rows, more = service.database.run(lambda s: logs.page(s, job_id, "quantize", 0, 100))
    text = "".join(chunk.text for _, chunk in rows)
    assert not more
    assert text.count("€") == 100_000
    assert text.endswith("\ufffd and no newline at the end")
    wait_until(lambda: [path.name for path in next(service.scratch.glob("scratch_*")).iterdir()] == ["lock"])
    service.stop()
    assert [path.name for path in service.scratch.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("act", "code", "attempts"),
    [
        ("crash", "child_crashed", 3),
        ("exit", "child_crashed", 3),
        ("garble", "child_crashed", 3),
        ("no_output", "child_crashed", 3),
        ("link", "child_crashed", 3),
        ("raise", "work_failed", 3),
        ("full", "does_not_fit", 2),
    ],
)
def test_a_child_that_goes_wrong_is_a_failed_attempt(service: Service, act: str, code: str, attempts: int) -> None:
    worker = service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job = service.wait(service.submit(act=act))
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == code
    assert job.steps[1].execution is not None
    assert job.steps[1].execution.attempt == attempts
    assert worker.poll() is None


def test_a_child_that_does_not_exit_is_ended_once_its_result_is_in(service: Service, tmp_path: Path) -> None:
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job = service.wait(service.submit(act="linger", begun=str(tmp_path / "begun")))
    assert job.status == "succeeded", job.error
    for pid in begun(tmp_path / "begun").values():
        wait_until(lambda p=pid: is_gone(p), seconds=5)  # type: ignore[misc]


def test_a_killed_worker_leaves_no_child_and_its_job_succeeds(service: Service, tmp_path: Path) -> None:
    service.start("rescue")
    service.start("dispatch")
    first = service.start("worker", "--pool", "cpu")
    job_id = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
    pids = begun(tmp_path / "begun")
    first.kill()
    for pid in pids.values():
        wait_until(lambda p=pid: is_gone(p), seconds=5)  # type: ignore[misc]
    (tmp_path / "go").touch()
    service.start("worker", "--pool", "cpu")
    job = service.wait(job_id)
    assert job.status == "succeeded", job.error
    assert job.steps[1].execution is not None
    assert job.steps[1].execution.attempt == 2


def test_a_worker_on_the_same_machine_gives_back_what_a_dead_one_held(service: Service, tmp_path: Path) -> None:
    """Nobody waits for the lease, here of half an hour, and rescue does not run."""
    lease = {"FEWBITS_LEASE_SECONDS": "1800", "FEWBITS_POLL_SECONDS": "0.2"}
    first = service.start("worker", "--pool", "cpu", **lease)
    job_id = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
    begun(tmp_path / "begun")
    first.kill()
    first.wait()
    (tmp_path / "go").touch()
    service.start("worker", "--pool", "cpu", **lease)
    job = service.wait(job_id)
    assert job.status == "succeeded", job.error
    assert job.steps[1].execution is not None
    assert job.steps[1].execution.failure_count == 1


def test_a_cancel_takes_effect_within_three_seconds(service: Service, tmp_path: Path) -> None:
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job_id = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "never"))
    pids = begun(tmp_path / "begun")
    asked = time.monotonic()
    service.database.run(lambda s: jobs.request_cancel(s, service.team, job_id))
    assert service.wait(job_id).status == "cancelled"
    assert time.monotonic() - asked < 3
    assert all(is_gone(pid) for pid in pids.values())


def test_a_stopped_child_group_is_killed_though_the_child_is_frozen(service: Service, tmp_path: Path) -> None:
    """A child that hangs in native code cannot answer; its group is killed all the same."""
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job_id = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "never"))
    pids = begun(tmp_path / "begun")
    os.kill(pids["child"], signal.SIGSTOP)
    service.database.run(lambda s: jobs.request_cancel(s, service.team, job_id))
    assert service.wait(job_id).status == "cancelled"
    assert is_gone(pids["child"])


@pytest.mark.slow
def test_a_flushed_broker_delays_by_ten_seconds_at_most(service: Service, broker_url: str, tmp_path: Path) -> None:
    """With 20 steps ready, the hints are lost just before an idle worker would have taken them."""
    service.start("dispatch")
    service.start("worker", "--pool", "cpu")
    assert service.wait(service.submit()).status == "succeeded"  # both are there, and idle again
    with Redis.from_url(broker_url) as broker:
        waiting = [service.submit(source=tmp_path / str(number)) for number in range(20)]
        broker.flushall()
    flushed = time.monotonic()
    wait_until(lambda: any(service.job(job_id).started_at is not None for job_id in waiting), seconds=10)
    assert time.monotonic() - flushed < 10
    for job_id in waiting:
        assert service.wait(job_id).status == "failed"  # there is nothing at the source


@pytest.mark.slow
def test_hints_work_again_after_a_flush(service: Service, broker_url: str) -> None:
    """The worker does not look by itself here, so only a hint can wake it."""
    service.start("dispatch")
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="60")
    assert service.wait(service.submit()).status == "succeeded"
    with Redis.from_url(broker_url) as broker:
        broker.flushall()
    assert service.wait(service.submit(label="again"), seconds=30).status == "succeeded"


def test_without_a_broker_the_work_is_done_all_the_same(service: Service) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    service.start("dispatch", FEWBITS_BROKER_URL=nowhere)
    worker = service.start("worker", "--pool", "cpu", FEWBITS_BROKER_URL=nowhere, FEWBITS_POLL_SECONDS="0.5")
    assert service.wait(service.submit()).status == "succeeded"
    worker.terminate()
    assert worker.wait(20) == 0


def test_a_missing_source_fails_with_what_to_do(service: Service, tmp_path: Path) -> None:
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job = service.wait(service.submit(source=tmp_path / "nothing"))
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "source_invalid"
    assert "There is no folder" in job.error["message"]
    assert job.steps[0].execution is not None
    assert job.steps[0].execution.attempt == 1


@pytest.mark.slow
def test_a_broker_that_answers_with_errors_ends_no_child(service: Service, broker_url: str, tmp_path: Path) -> None:
    """Celery gives up on such an answer; the worker and the child at work go on, and hints work again afterwards."""
    service.start("dispatch")
    worker = service.start("worker", "--pool", "cpu", "--slots", "2", FEWBITS_POLL_SECONDS="60")
    job_id = service.submit(begun=str(tmp_path / "begun"), until=str(tmp_path / "go"))
    begun(tmp_path / "begun")
    worker_log = next(tmp_path.glob("*-worker.log"))
    with Redis.from_url(broker_url) as broker:
        broker.config_set("min-replicas-to-write", 1)
        try:
            wait_until(lambda: "Unrecoverable error" in worker_log.read_text())
        finally:
            broker.config_set("min-replicas-to-write", 0)
    (tmp_path / "go").touch()
    job = service.wait(job_id)
    assert job.status == "succeeded"
    assert job.steps[1].execution is not None
    assert job.steps[1].execution.attempt == 1
    wait_until(lambda: "started anew" in worker_log.read_text())
    assert service.wait(service.submit(label="again")).status == "succeeded"
    assert worker.poll() is None
