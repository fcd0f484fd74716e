"""What comes of a result that is not what it must be, and of what a child measures, with real workers."""

from pathlib import Path

import pytest

from core.ids import JobId
from db import jobs, metrics
from db.tables import Execution, Job
from engines.recipe import parse_recipe
from pipeline.plan import plan
from tests.waiting import wait_until
from tests.workers.conftest import Service


def submit_whole(service: Service) -> JobId:
    """Submit all steps of a synthetic job, whose result is no GGUF."""
    steps = plan(parse_recipe({"method": "synthetic"}), {"domains": ["prose"], "windows": 1})
    return service.submit(steps=steps)


def execution(job: Job, kind: str) -> Execution:
    found = next(step.execution for step in job.steps if step.kind == kind)
    assert found is not None
    return found


@pytest.mark.slow
def test_a_result_that_is_not_what_it_must_be_is_neither_published_nor_used_again(service: Service) -> None:
    for pool in ("cpu", "gpu"):
        service.start("worker", "--pool", pool, FEWBITS_POLL_SECONDS="0.2")
    first = service.wait(submit_whole(service), seconds=120)
    assert first.error is not None
    assert first.error["code"] == "verification_failed"
    assert "cannot be read" in first.error["message"]
    assert {step.kind: step.status for step in first.steps}["evaluate"] == "skipped"
    assert not service.database.run(lambda session: jobs.results(session, service.team, first.id))
    assert execution(first, "quantize").lost_at is not None
    second = service.wait(submit_whole(service), seconds=120)
    assert execution(second, "quantize").id != execution(first, "quantize").id
    assert execution(second, "reference").id == execution(first, "reference").id


def test_what_a_child_measures_can_be_read_while_it_runs(service: Service, tmp_path: Path) -> None:
    service.start("worker", "--pool", "cpu")
    go = tmp_path / "go"
    job_id = service.submit(act="measure", until=str(go))
    run = service.database.run
    wait_until(lambda: bool(run(lambda session: metrics.page(session, job_id, 0, 10))[0]), seconds=60)
    ((step, metric),), more = run(lambda session: metrics.page(session, job_id, 0, 10))
    assert not more
    assert (step.kind, metric.attempt, metric.layer, metric.module) == ("quantize", 1, 3, "mlp.up_proj")
    assert metric.values["loss"] == 0.5
    assert metric.values["memory_bytes"] > 1e6
    go.touch()
    assert service.wait(job_id).status == "succeeded"
