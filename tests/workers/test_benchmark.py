"""A result is benchmarked by a real worker, alone, for each job anew."""

from typing import Any

import pytest

from db.jobs import PlannedStep
from db.tables import Execution, Job
from engines.recipe import parse_recipe
from pipeline.plan import plan
from tests.workers.conftest import Service

BENCHMARK: dict[str, Any] = {"context_tokens": [64, 16], "batch_sizes": [1, 2], "generated_tokens": 4, "repeats": 2}
EVALUATION: dict[str, Any] = {"domains": ["prose"], "windows": 1}


def steps(benchmark: dict[str, Any]) -> tuple[PlannedStep, ...]:
    """Return what of a plan comes before a benchmark, but for the verification, and that."""
    planned = plan(parse_recipe("gguf:Q8_0"), EVALUATION, benchmark=benchmark)
    kept = [step for step in planned if step.kind in ("fetch", "convert", "quantize", "benchmark")]
    kept[-1] = PlannedStep("benchmark", "cpu", ("fetch", "quantize"), kept[-1].params)
    return tuple(kept)


def measured(job: Job) -> Execution:
    assert job.status == "succeeded", job.error
    execution = job.steps[-1].execution
    assert execution is not None
    return execution


@pytest.mark.slow
def test_a_result_is_measured_by_a_worker_that_does_nothing_else(service: Service) -> None:
    service.start("worker", "--pool", "cpu", "--slots", "2", FEWBITS_POLL_SECONDS="0.2", FEWBITS_CHILD_THREADS="1")
    first, beside = service.submit(steps=steps(BENCHMARK)), [service.submit(label=str(n)) for n in range(3)]
    second = service.submit(steps=steps(BENCHMARK))
    found, again = (measured(service.wait(job_id)) for job_id in (first, second))
    assert found.is_exclusive
    assert found.id != again.id  # quantized once, and measured for each
    facts = found.facts or {}
    assert facts["hardware"]["threads"] == 2
    assert facts["runtime"].startswith("llama.cpp")
    assert [(point["context_tokens"], point["batch_size"]) for point in facts["points"]] == [
        *((16, 1), (16, 2)),
        *((64, 1), (64, 2)),
    ]
    assert all(point["generation_tokens_per_second"]["min"] > 0 for point in facts["points"])
    for job_id in beside:
        service.wait(job_id)
    spans = [
        (attempt.started_at, attempt.ended_at)
        for job_id in beside
        for kind in ("fetch", "quantize")
        for attempt in service.attempts(job_id, kind)
    ]
    for one in (*service.attempts(first, "benchmark"), *service.attempts(second, "benchmark")):
        assert one.ended_at is not None
        for began, ended in spans:
            assert ended is not None
            assert ended <= one.started_at or began >= one.ended_at


@pytest.mark.slow
def test_what_the_model_cannot_read_is_told_once_the_model_is_there(service: Service) -> None:
    service.start("worker", "--pool", "cpu", FEWBITS_POLL_SECONDS="0.2")
    job = service.wait(service.submit(steps=steps({**BENCHMARK, "context_tokens": [2048]})))
    assert job.error is not None
    assert job.error["param"] == "benchmark.context_tokens"
    assert "context of 2044 at most" in job.error["message"]
