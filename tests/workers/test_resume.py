"""A real quantization is preempted, or its worker killed: another worker goes on after the last finished layer."""

import signal
from collections.abc import Mapping, Sequence

import pytest
from sqlalchemy import select

from core.ids import JobId
from db import artifacts
from db.tables import Artifact, CheckpointFile, Execution, Job, Metric
from engines.recipe import parse_recipe
from pipeline.plan import plan
from store.directory import DirectoryStore
from tests.waiting import wait_until
from tests.workers.conftest import Service
from workers.collector import Collector, Keeping

LEAVING = {"FEWBITS_SHUTDOWN_SECONDS": "40", "FEWBITS_POLL_SECONDS": "0.2"}
KEEPING = Keeping(garbage_grace_seconds=0, idempotency_seconds=60, history_seconds=3600)
LAYERS, MODULES = 6, 7  # of tiny-llama-6m
# The search of scales makes a layer take long enough to be hit.
RECIPE = {"method": "gptq", "mse": 2.4, "calibration_samples": 8, "calibration_tokens": 64}


def submit(service: Service) -> JobId:
    """Submit what comes before a quantization, and that."""
    steps = plan(parse_recipe(RECIPE), {"domains": ["prose"], "windows": 1})
    return service.submit(steps=tuple(step for step in steps if step.kind in ("fetch", "calibrate", "quantize")))


def quantization(job: Job) -> Execution:
    found = next(step.execution for step in job.steps if step.kind == "quantize")
    assert found is not None
    return found


def artifact(job: Job) -> Artifact:
    made = quantization(job).artifact
    assert made is not None
    return made


def checkpoint(service: Service) -> Sequence[CheckpointFile]:
    return service.database.run(lambda s: s.scalars(select(CheckpointFile)).all())


def measured(service: Service, execution_id: str) -> Mapping[int, Sequence[int]]:
    """Return the layers that each attempt has measured, one for each module."""
    rows = service.database.run(lambda s: s.scalars(select(Metric).where(Metric.execution_id == execution_id)).all())
    return {one: [row.layer for row in rows if row.attempt == one] for one in {row.attempt for row in rows}}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGTERM, id="told to leave"),
        pytest.param(signal.SIGKILL, id="killed", marks=pytest.mark.slow),
    ],
)
def test_another_worker_goes_on_after_the_last_finished_layer(service: Service, how: signal.Signals) -> None:
    service.start("worker", "--pool", "cpu", "--slots", "1", FEWBITS_POLL_SECONDS="0.2")
    first = service.start("worker", "--pool", "gpu", "--slots", "1", **LEAVING)
    job_id = submit(service)
    wait_until(lambda: bool(checkpoint(service)), seconds=120)  # which comes with the first layer
    first.send_signal(how)
    assert first.wait(60) == (0 if how == signal.SIGTERM else -how)
    kept = checkpoint(service)
    assert kept

    service.start("worker", "--pool", "gpu", "--slots", "1", **LEAVING)
    job = service.wait(job_id, seconds=120)
    assert job.status == "succeeded", job.error
    outcomes = [attempt.outcome for attempt in service.attempts(job_id)]
    assert outcomes == ["released" if how == signal.SIGTERM else "lost", "succeeded"]
    by_attempt = measured(service, quantization(job).id)
    finished = LAYERS - len(by_attempt[2]) // MODULES
    assert finished > 0
    assert sorted(by_attempt[2]) == sorted(MODULES * list(range(finished, LAYERS)))
    if how == signal.SIGTERM:
        assert sorted(by_attempt[1]) == sorted(MODULES * list(range(finished)))  # it left between two layers
    require_forgotten(service, kept)
    require_as_unbroken(service, artifact(job))


def require_forgotten(service: Service, kept: Sequence[CheckpointFile]) -> None:
    """See that nothing is kept of a checkpoint once its work is done."""
    store = DirectoryStore(service.store)
    assert not checkpoint(service)
    Collector(service.database, store, KEEPING).run_once()
    assert not any(store.has(file.sha256) for file in kept)


def require_as_unbroken(service: Service, resumed: Artifact) -> None:
    """Have the same made again without a break, and compare."""
    service.database.run(lambda session: artifacts.reject(session, resumed.id))
    again = service.wait(submit(service), seconds=120)
    assert again.status == "succeeded", again.error
    assert artifact(again).id != resumed.id
    assert artifact(again).digest == resumed.digest
