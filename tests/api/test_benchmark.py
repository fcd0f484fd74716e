"""A benchmark is asked for, planned, refused with what to do, and shown; what serving takes is told of every result."""

from pathlib import Path
from typing import Any

import pytest

from core.settings import Settings
from db.session import Database
from tests.api.benchmarks import ASKED, MEASURED
from tests.api.conftest import Caller
from tests.api.work import CHECKS, WRITTEN_FACTS, Workers
from tests.conftest import TINY_LLAMA
from tests.pipeline.record import MODEL

SIZES = {"position_count": 8192, "head_count": 4, "kv_head_count": 2}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"source_roots": (Path("/models"), TINY_LLAMA.parent)})


def asking(**benchmark: Any) -> dict[str, Any]:
    return {"source": TINY_LLAMA.as_uri(), "recipe": "gguf:Q8_0", "benchmark": benchmark}


def test_a_job_has_no_such_step_unless_it_is_asked_for(caller: Caller) -> None:
    made = caller.post("/v1/jobs", {"source": TINY_LLAMA.as_uri(), "recipe": "gguf:Q8_0"}).get_json()
    assert made["benchmark"] is None
    assert "benchmark" not in [step["kind"] for step in made["steps"]]


def test_what_is_not_said_has_defaults_and_a_retry_asks_for_the_same(caller: Caller) -> None:
    made = caller.post("/v1/jobs", asking()).get_json()
    assert made["benchmark"] == {"context_tokens": [512], "batch_sizes": [1], "generated_tokens": 64, "repeats": 3}
    assert [step["kind"] for step in made["steps"]][-2:] == ["benchmark", "document"]
    asked = caller.post("/v1/jobs", asking(**ASKED)).get_json()
    caller.post(f"/v1/jobs/{asked['id']}/cancel")
    again = caller.post(f"/v1/jobs/{asked['id']}/retry").get_json()
    assert again["benchmark"] == asked["benchmark"] == ASKED


def test_a_plan_forecasts_it_by_its_largest_point(caller: Caller) -> None:
    taken = []
    for benchmark in (ASKED, {**ASKED, "batch_sizes": [64]}):
        planned = caller.post("/v1/plan", asking(**benchmark)).get_json()
        (step,) = [step for step in planned["steps"] if step["kind"] == "benchmark"]
        assert (step["pool"], step["needs"]) == ("cpu", ["fetch", "quantize", "verify"])
        taken.append(step["memory_bytes"])
    assert taken[0] < taken[1]


def test_what_the_model_cannot_read_is_refused_with_what_it_can(caller: Caller) -> None:
    planned = caller.post("/v1/plan", asking(context_tokens=[512, 2000])).get_json()
    (refusal,) = planned["refusals"]
    assert refusal["param"] == "benchmark.context_tokens"
    assert "context of 1984 at most" in refusal["message"]
    refused = caller.post("/v1/jobs", asking(context_tokens=[512, 2000]))
    assert refused.status_code == 422
    unseen = {**asking(context_tokens=[100_000], batch_sizes=[16]), "source": "file:///models/unseen"}
    refused = caller.post("/v1/jobs", unseen)
    assert "smaller batch" in refused.get_json()["detail"]


@pytest.mark.parametrize(
    "benchmark",
    [
        {"context_tokens": []},
        {"context_tokens": [0]},
        {"context_tokens": [512, 512]},
        {"batch_sizes": [2000]},
        {"batch_sizes": list(range(1, 10))},
        {"generated_tokens": 0},
        {"repeats": 101},
        {"warm_ups": 1},
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused(caller: Caller, benchmark: dict[str, Any]) -> None:
    assert caller.post("/v1/jobs", asking(**benchmark)).status_code == 422


def test_a_result_tells_its_speed_and_what_serving_takes(caller: Caller, database: Database) -> None:
    job = caller.post("/v1/jobs", asking(**ASKED)).get_json()
    work = Workers(database)
    work.do("fetch", {"model": {**MODEL, **SIZES}})
    work.do("convert")
    work.do("quantize", WRITTEN_FACTS)
    result = caller.get(f"/v1/jobs/{job['id']}").get_json()["result"]
    assert result["benchmark"] is None
    token_bytes = 2 * 6 * 2 * 64 * 2
    assert result["serving_memory"] == [
        {"context_tokens": length, "batch_size": 1, "weight_bytes": 300, "kv_cache_bytes": length * token_bytes}
        for length in (4096, 8192)
    ]
    work.do("reference")
    work.do("verify", {"checks": CHECKS})
    work.bind()
    for _ in range(2):  # in either order
        taken = work.claim("cpu")
        assert taken is not None
        work.finish(taken, {"evaluate": {}, "benchmark": MEASURED}[taken.kind])
    result = caller.get(f"/v1/jobs/{job['id']}").get_json()["result"]
    assert result["benchmark"] == {name: value for name, value in MEASURED.items() if name != "device"}
    (listed,) = caller.get("/v1/jobs").get_json()["data"]
    assert listed["result"]["benchmark"] == result["benchmark"]
    assert listed["result"]["serving_memory"] is None


def test_of_a_model_that_another_version_has_fetched_nothing_is_told(caller: Caller, database: Database) -> None:
    job = caller.post("/v1/jobs", asking()).get_json()
    work = Workers(database)
    work.do("fetch", {"model": {"weight_bytes": 5}})
    work.do("convert")
    work.do("quantize", WRITTEN_FACTS)
    assert caller.get(f"/v1/jobs/{job['id']}").get_json()["result"]["serving_memory"] is None
