"""What a worker offers is what it may use."""

from pathlib import Path

import psutil
import pytest
from sqlalchemy import select, update

from db.jobs import PlannedStep
from db.tables import Execution, Worker
from pipeline.binding import bind_ready_steps
from tests.waiting import wait_until
from tests.workers.conftest import Service
from workers import devices


@pytest.mark.parametrize(
    ("limit", "memory_bytes"),
    [("1048576\n", 1 << 20), ("max\n", None), (f"{1 << 62}\n", None), (None, None)],
)
def test_a_container_offers_no_more_memory_than_its_limit(
    limit: str | None, memory_bytes: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(limit)
    monkeypatch.setattr(devices, "CONTAINER_LIMIT", file)
    assert devices.devices("cpu")[0].memory_bytes == (memory_bytes or psutil.virtual_memory().total)


def test_a_worker_offers_no_more_scratch_than_it_may_fill(service: Service) -> None:
    """What needs one byte more is left, though it was there first and other work is done."""
    job_id = service.submit()
    bind_ready_steps(service.database)
    with service.database.transaction() as session:
        session.execute(update(Execution).values(scratch_bytes=1001))
    service.start("worker", "--pool", "cpu", FEWBITS_SCRATCH_BYTES_MAX="1000", FEWBITS_POLL_SECONDS="0.2")
    wait_until(lambda: offered(service) == [1000])
    assert service.wait(service.submit()).status == "succeeded"
    left = select(Execution.status).where(Execution.scratch_bytes == 1001)
    assert service.database.run(lambda s: s.scalars(left).all()) == ["ready"]
    assert service.job(job_id).status == "queued"


def test_a_worker_without_gpu_leaves_what_needs_one(service: Service) -> None:
    """Though it was there first, and other work of the pool is done."""
    fetch = PlannedStep("fetch", "cpu", (), {})
    for_gpu, for_any = (
        service.submit(steps=(fetch, PlannedStep("quantize", "gpu", ("fetch",), {"recipe": {"method": method}})))
        for method in ("synthetic-gpu", "synthetic")
    )
    for pool in ("cpu", "gpu"):
        service.start("worker", "--pool", pool, FEWBITS_POLL_SECONDS="0.2")
    assert service.wait(for_any).status == "succeeded"
    kept = select(Execution.status).where(Execution.needs_gpu)
    wait_until(lambda: service.database.run(lambda s: s.scalars(kept).all()) == ["ready"])
    assert service.job(for_gpu).status == "running"


def offered(service: Service) -> list[int]:
    return list(service.database.run(lambda s: s.scalars(select(Worker.scratch_bytes)).all()))
