import datetime as dt
from typing import Any

import pytest

from core.errors import SourceInvalid
from core.manifest import StoredFile
from db.session import Database
from tests.api.conftest import SOURCE, Caller, pointers, problem_of
from tests.api.work import CHECKS, MODEL_FACTS, Workers

JOB_FIELDS = [
    *("id", "object", "created_at", "started_at", "finished_at", "status", "source", "method", "recipe"),
    *(
        "parameters",
        "evaluation",
        "gate",
        "verdict",
        "benchmark",
        "priority",
        "metadata",
        "labels",
        "retry_of",
        "sweep",
    ),
    *("max_runtime_seconds", "max_pending_seconds", "max_attempts", "wait_for_capacity", "publish_to", "published"),
    *("waits_for", "error", "steps", "result"),
]
STEP_FIELDS = ["id", "kind", "status", "pool", "attempt", "reused", "progress", "started_at", "finished_at", "error"]
GATE = {
    "metric": "perplexity_ratio",
    "domain": "code",
    "task": None,
    "max": 1.02,
    "min": None,
    "short": "code: perplexity_ratio <= 1.02",
}
KINDS = ["fetch", "convert", "quantize", "reference", "verify", "evaluate", "document"]


def test_a_submitted_job_is_queued_with_its_steps(caller: Caller) -> None:
    response = caller.post("/v1/jobs", {"source": SOURCE, "recipe": "gguf"})
    assert response.status_code == 201
    job = response.get_json()
    assert list(job) == JOB_FIELDS
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["status"], job["method"], job["recipe"]) == ("job", "queued", "gguf", "gguf:Q4_K_M")
    assert job["parameters"]["type"] == "Q4_K_M"
    assert job["evaluation"] == {"domains": ["prose", "code"], "windows": 40, "tasks": [], "task_items": 200}
    assert [list(step) for step in job["steps"]] == [STEP_FIELDS] * 7
    assert [step["kind"] for step in job["steps"]] == KINDS
    assert [step["status"] for step in job["steps"]] == ["ready", *["waiting"] * 6]
    assert (job["labels"], job["retry_of"], job["result"]) == ([], None, None)
    assert job["created_at"].endswith("Z")
    assert dt.datetime.fromisoformat(job["created_at"]).utcoffset() == dt.timedelta()
    assert caller.get(f"/v1/jobs/{job['id']}").get_json() == job


def test_everything_that_was_asked_for_is_kept(caller: Caller) -> None:
    asked = {
        "evaluation": {"domains": ["code"], "windows": 3, "tasks": [], "task_items": 7},
        "gate": [GATE],
        "metadata": {"ticket": "A-1", "wörter": "✓"},
        "labels": ["nightly", "a-b_c.d:e/f=g", "L" * 64],
        "priority": -7,
        "max_runtime_seconds": 60,
        "max_pending_seconds": None,
        "max_attempts": 4,
        "wait_for_capacity": True,
        "publish_to": "file:///published/model",
    }
    job = caller.submit({"method": "gguf", "type": "Q8_0"}, **{**asked, "gate": [GATE["short"]]})
    assert caller.submit(priority=5.0)["priority"] == 5
    assert {name: job[name] for name in asked} == asked
    assert job["recipe"] == "gguf:Q8_0"


def test_a_job_shows_what_its_steps_find_out(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    work = Workers(database)
    work.do("fetch", {"model": {"weight_bytes": 1000}})
    work.do("convert")
    taken = work.start("quantize")
    work.progress(taken, 4)
    job = caller.get(f"/v1/jobs/{job_id}").get_json()
    assert job["status"] == "running"
    assert job["result"] is None
    progress = {"done": 4, "total": 10, "unit": "tensors", "message": "working", "seconds_left": 12.5}
    assert job["steps"][2]["progress"] == progress
    assert job["steps"][2]["attempt"] == 1
    work.finish(taken, {"size_bytes": 300, "bits_per_weight": 4.8, "tensor_types": {"q4_K": 36}})
    result = caller.get(f"/v1/jobs/{job_id}").get_json()["result"]
    runtimes = result.pop("runtimes")
    assert {"vLLM", "llama.cpp"} <= {one["runtime"] for one in runtimes if one["serves"]}
    assert result == {
        "size_bytes": 300,
        "bits_per_weight": 4.8,
        "tensor_types": {"q4_K": 36},
        "source_size_bytes": 1000,
        "calibration": None,
        "baseline": None,
        "perplexity": None,
        "comparison": None,
        "tasks": None,
        "gate": None,
        "looks": None,
        "verification": None,
        "serving_memory": None,
        "benchmark": None,
        "seconds": None,
    }


def test_a_finished_job_has_its_whole_result(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    Workers(database).do_all()
    job = caller.get(f"/v1/jobs/{job_id}").get_json()
    assert job["status"] == "succeeded"
    assert job["result"]["baseline"] == {"perplexity": {"prose": 23.7, "code": 7.5}}
    assert job["result"]["perplexity"] == {"prose": 24.4, "code": 7.7}
    assert job["result"]["verification"] == CHECKS
    assert job["result"]["seconds"] > 0
    assert all(step["progress"] is None for step in job["steps"])
    job["result"]["runtimes"] = None  # a list leaves them out
    assert caller.get("/v1/jobs").get_json()["data"] == [job]


@pytest.mark.parametrize(
    ("condition", "stored"),
    [
        ("perplexity_ratio<=1.02", {"metric": "perplexity_ratio", "domain": None, "max": 1.02}),
        (" code : agreement >= 0.95 ", {"metric": "agreement", "domain": "code", "min": 0.95}),
        ({"metric": "kl_divergence", "domain": "prose", "max": 3}, {"metric": "kl_divergence", "max": 3}),
        ({"metric": "kl_divergence_p99", "max": 0.5}, {"metric": "kl_divergence_p99", "max": 0.5}),
        ("perplexity_ratio <= 1.0200001", {"max": 1.0200001}),
        ("kl_divergence <= 123456.7", {"max": 123456.7}),
        ("kl_divergence <= 0.0000001", {"max": 1e-7}),
    ],
)
def test_a_condition_has_a_short_and_a_long_form(caller: Caller, condition: Any, stored: dict[str, Any]) -> None:
    job = caller.submit(gate=[condition])
    assert stored.items() <= job["gate"][0].items()
    assert caller.submit(gate=[job["gate"][0]["short"]])["gate"] == job["gate"]
    assert job["verdict"] is None


@pytest.mark.parametrize(
    ("condition", "pointer", "says"),
    [
        ("perplexity_ratio <= 0", "/gate/0", "such as"),
        ("perplexity_ratio >= 1", "/gate/0", "such as"),
        ("agreement >= 1.5", "/gate/0", "such as"),
        ("perplexity <= 1.02", "/gate/0", "such as"),
        ("poetry: perplexity_ratio <= 1.02", "/gate/0/domain", "Name one of evaluation.domains"),
        ({"metric": "agreement", "max": 1}, "/gate/0/min", "required"),
        ({"metric": "agreement", "min": 1, "max": 1}, "/gate/0/max", "not permitted"),
        ({"metric": "speed", "max": 1}, "/gate/0", "expected tags"),
        (7, "/gate/0", "dictionary"),
    ],
)
def test_a_wrong_condition_is_refused_by_its_place(caller: Caller, condition: Any, pointer: str, says: str) -> None:
    response = caller.post("/v1/jobs", {"source": SOURCE, "recipe": "gguf", "gate": [condition]})
    assert response.status_code == 422
    assert pointer in pointers(response)
    assert says in problem_of(response)["detail"]


DECIDED: dict[str, Any] = {
    "verdict": "blocked",
    "looks": 3,
    "gate": [
        {
            "metric": "perplexity_ratio",
            "domain": "code",
            "max": 1.02,
            "min": None,
            "measured": {"value": 1.03, "low": 1.01, "high": 1.05},
            "decision": "undecided",
        }
    ],
}


def test_a_blocked_job_says_why_and_hands_out_what_says_so_alone(caller: Caller, database: Database) -> None:
    job_id = caller.submit(gate=[GATE["short"]])["id"]
    Workers(database).do_all([StoredFile("model.gguf", "a" * 64, 7)], decided=DECIDED)
    job = caller.get(f"/v1/jobs/{job_id}").get_json()
    assert (job["status"], job["verdict"], job["published"]) == ("succeeded", "blocked", False)
    assert job["result"]["looks"] == 3
    outcome = {"measured": DECIDED["gate"][0]["measured"], "decision": "undecided"}
    assert job["result"]["gate"] == [{**GATE, **outcome}]
    assert caller.get(f"/v1/jobs/{job_id}/artifacts").get_json()["data"] == []
    passed = caller.submit()["id"]
    Workers(database).do_all([StoredFile("model.gguf", "a" * 64, 7)], decided={"verdict": "passed"})
    assert len(caller.get(f"/v1/jobs/{passed}/artifacts").get_json()["data"]) == 1


def test_a_result_is_compared_with_full_precision(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    ratio = {"value": 1.03, "low": 1.02, "high": 1.04}
    Workers(database).do_all(measures={"perplexity_ratio": ratio})
    result = caller.get(f"/v1/jobs/{job_id}").get_json()["result"]
    assert result["comparison"]["prose"] == {
        "items": 2,
        "tokens": 510,
        "baseline_perplexity": 23.7,
        "perplexity": 24.4,
        "perplexity_ratio": ratio,
        "kl_divergence": None,
        "kl_divergence_p99": None,
        "agreement": None,
    }


def test_the_baseline_is_of_the_same_windows(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    Workers(database).do_all(decided={"baseline_perplexity": {"prose": 22.5, "code": 7.1}})
    result = caller.get(f"/v1/jobs/{job_id}").get_json()["result"]
    assert result["baseline"]["perplexity"] == {"prose": 22.5, "code": 7.1}
    assert result["comparison"]["code"]["baseline_perplexity"] == 7.1


def test_lists_are_paged_newest_first(caller: Caller) -> None:
    ids = [caller.submit()["id"] for _ in range(5)][::-1]
    seen: list[str] = []
    after = ""
    for expected in (2, 2, 1):
        page = caller.get(f"/v1/jobs?limit=2{after}").get_json()
        assert page["object"] == "list"
        assert len(page["data"]) == expected
        seen += [job["id"] for job in page["data"]]
        assert page["has_more"] is (len(seen) < len(ids))
        after = f"&after={seen[-1]}"
    assert seen == ids


def test_lists_are_filtered(caller: Caller) -> None:
    first, second = caller.submit(labels=["a", "b"]), caller.submit(labels=["b"])
    caller.post(f"/v1/jobs/{first['id']}/cancel")

    def found(query: str) -> list[str]:
        return [job["id"] for job in caller.get(f"/v1/jobs?{query}").get_json()["data"]]

    assert found("status=cancelled") == [first["id"]]
    assert found("status=queued&method=gguf") == [second["id"]]
    assert found("method=gptq") == []
    assert found("label=a") == [first["id"]]
    assert found("label=b") == [second["id"], first["id"]]
    assert found("label=b&status=queued") == [second["id"]]
    assert found("label=c") == []
    assert found(f"created_after={first['created_at']}") == [second["id"]]


def told(caller: Caller, job_id: str) -> list[str]:
    return [event["message"] for event in caller.get(f"/v1/jobs/{job_id}/events").get_json()["data"]]


def test_a_queued_job_is_cancelled_at_once(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    answers = [caller.post(f"/v1/jobs/{job_id}/cancel") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.get_json()["status"] for answer in answers] == ["cancelled"] * 3
    assert {step["status"] for step in answers[0].get_json()["steps"]} == {"cancelled"}
    assert told(caller, job_id) == ["The job is queued.", "The job is cancelled."]
    assert Workers(database).claim("cpu") is None


def test_a_running_job_is_cancelled_once_its_step_has_been_stopped(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    work = Workers(database)
    taken = work.start("fetch")
    answers = [caller.post(f"/v1/jobs/{job_id}/cancel") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.get_json()["status"] for answer in answers] == ["cancelling"] * 3
    work.stop(taken)
    assert caller.get(f"/v1/jobs/{job_id}").get_json()["status"] == "cancelled"
    again = caller.post(f"/v1/jobs/{job_id}/cancel")
    assert (again.status_code, again.get_json()["status"]) == (200, "cancelled")
    assert len([message for message in told(caller, job_id) if "ancel" in message]) == 2


def test_a_job_that_is_publishing_is_not_cancelled_and_says_so(caller: Caller, database: Database) -> None:
    job_id = caller.submit(publish_to="file:///published/model")["id"]
    work = Workers(database)
    work.do_all()
    assert caller.get(f"/v1/jobs/{job_id}").get_json()["published"] is False
    taken = work.start("publish")
    for _ in range(2):
        refusal = caller.post(f"/v1/jobs/{job_id}/cancel")
        assert refusal.status_code == 409
        problem = problem_of(refusal)
        assert problem["code"] == "conflict"
        assert "begun to publish its result to file:///published/model" in problem["detail"]
        assert "it completes" in problem["detail"]
    work.finish(taken, {"published_to": "file:///published/model"})
    job = caller.get(f"/v1/jobs/{job_id}").get_json()
    assert (job["status"], job["published"]) == ("succeeded", True)


def test_a_job_between_two_steps_is_cancelled_at_once(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    work = Workers(database)
    work.do("fetch", MODEL_FACTS)
    response = caller.post(f"/v1/jobs/{job_id}/cancel")
    assert (response.status_code, response.get_json()["status"]) == (200, "cancelled")
    assert [step["status"] for step in response.get_json()["steps"]] == ["succeeded", *["cancelled"] * 6]


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_what_has_ended_by_itself_cannot_be_cancelled(caller: Caller, database: Database, end: str) -> None:
    job_id = caller.submit()["id"]
    work = Workers(database)
    if end == "succeeded":
        work.do_all()
    else:
        work.fail(work.start("fetch"), SourceInvalid("It has no config.json."))
    before = caller.get(f"/v1/jobs/{job_id}").get_json()
    for _ in range(2):
        response = caller.post(f"/v1/jobs/{job_id}/cancel")
        assert response.status_code == 409
        assert problem_of(response)["code"] == "conflict"
        assert f"has {end} already" in problem_of(response)["detail"]
    assert caller.get(f"/v1/jobs/{job_id}").get_json() == before


def test_methods_show_their_parameters(caller: Caller) -> None:
    page = caller.get("/v1/methods").get_json()
    assert (page["object"], page["has_more"]) == ("list", False)
    gguf = next(method for method in page["data"] if method["name"] == "gguf")
    assert gguf["default"] == "gguf:Q4_K_M"
    assert "Q4_K_M" in gguf["parameters"]["properties"]["type"]["enum"]


MEANINGLESS_QUERIES = [
    ("limit=0", "/limit"),
    ("limit=101", "/limit"),
    ("limit=many", "/limit"),
    (f"limit={'9' * 400}", "/limit"),
    ("limit=1&limit=2", "/limit"),
    ("after=job_of_nobody", "/after"),
    ("after=%00", "/after"),
    ("status=done", "/status"),
    ("method=%00", "/method"),
    ("created_after=yesterday", "/created_after"),
    ("created_after=2026-01-01T00:00:00", "/created_after"),
    ("created_after=0", "/created_after"),
    ("label=", "/label"),
    ("label=a%00", "/label"),
    ("label=a&label=b", "/label"),
    ("colour=red", "/colour"),
]


def test_queries_that_mean_nothing_are_refused(caller: Caller, subtests: pytest.Subtests) -> None:
    for query, pointer in MEANINGLESS_QUERIES:
        with subtests.test(query=query):
            response = caller.get(f"/v1/jobs?{query}")
            assert response.status_code == 422
            assert pointers(response) == [pointer]
