"""Every attempt of a real child leaves what it was forecast to take, and what it took, however it ended."""

import os
import signal
from pathlib import Path

import pytest

from core.ids import JobId
from db import jobs, logs
from db.tables import Attempt
from tests.synthetic import FILE_BYTES, VRAM_BYTES
from tests.waiting import wait_until
from tests.workers.conftest import Service
from tests.workers.test_worker import begun

PYTHON_BYTES = 20 << 20  # a child with its libraries takes more
WRITTEN_BYTES = 3 * FILE_BYTES


def require_measured(attempt: Attempt) -> None:
    """Find what a child took that has written its files, with no GPU, beside what was forecast."""
    assert attempt.peak_memory_bytes is not None
    assert attempt.peak_memory_bytes > PYTHON_BYTES
    assert attempt.peak_vram_bytes is None
    assert attempt.peak_scratch_bytes is not None
    assert WRITTEN_BYTES <= attempt.peak_scratch_bytes < 2 * WRITTEN_BYTES
    forecast = attempt.forecast_memory_bytes, attempt.forecast_vram_bytes, attempt.forecast_scratch_bytes
    assert forecast == (1, 0, 1)


def at_work(service: Service, tmp_path: Path) -> tuple[JobId, dict[str, int]]:
    """Start a child, and return once its supervisor has seen the files that it writes."""
    job_id = service.submit(act="files", begun=str(tmp_path / "begun"), until=str(tmp_path / "never"))
    pids = begun(tmp_path / "begun")
    # Its log is copied when it has been looked at.
    wait_until(lambda: bool(service.database.run(lambda s: logs.page(s, job_id, "quantize", 0, 1))[0]))
    return job_id, pids


def test_what_succeeds(service: Service) -> None:
    service.start("worker", "--pool", "cpu")
    job_id = service.submit(act="files")
    job = service.wait(job_id)
    assert job.status == "succeeded", job.error
    (attempt,) = service.attempts(job_id)
    require_measured(attempt)


@pytest.mark.parametrize("act", ["full", "raise"])
def test_what_fails(service: Service, act: str) -> None:
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job_id = service.submit(act=act)
    service.wait(job_id)
    attempts = service.attempts(job_id)
    assert all((attempt.peak_memory_bytes or 0) > PYTHON_BYTES for attempt in attempts)
    assert all((attempt.peak_scratch_bytes or 0) > 0 for attempt in attempts)  # its log is there, too


def test_a_full_gpu_is_told_by_the_child_that_fails_of_it(service: Service) -> None:
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job_id = service.submit(act="gpu_full")
    job = service.wait(job_id)
    assert job.error is not None
    assert [attempt.peak_vram_bytes for attempt in service.attempts(job_id)] == [max(VRAM_BYTES)] * 2
    assert f"{max(VRAM_BYTES) / 1e9:.1f} GB of GPU memory" in job.error["message"]


def test_what_is_killed(service: Service, tmp_path: Path) -> None:
    service.start("worker", "--pool", "cpu", FEWBITS_ATTEMPTS_MAX="1")
    job_id, pids = at_work(service, tmp_path)
    os.kill(pids["child"], signal.SIGKILL)
    service.wait(job_id)
    (attempt,) = service.attempts(job_id)
    assert attempt.outcome == "failed"
    require_measured(attempt)


def test_what_is_cancelled(service: Service, tmp_path: Path) -> None:
    service.start("worker", "--pool", "cpu")
    job_id, _ = at_work(service, tmp_path)
    service.database.run(lambda s: jobs.request_cancel(s, service.team, job_id))
    service.wait(job_id)
    (attempt,) = service.attempts(job_id)
    assert attempt.outcome == "cancelled"
    require_measured(attempt)


def test_what_leaves(service: Service, tmp_path: Path) -> None:
    worker = service.start("worker", "--pool", "cpu", FEWBITS_SHUTDOWN_SECONDS="6")
    job_id, _ = at_work(service, tmp_path)
    worker.terminate()
    assert worker.wait(20) == 0
    (attempt,) = service.attempts(job_id)
    assert attempt.outcome == "released"
    require_measured(attempt)
