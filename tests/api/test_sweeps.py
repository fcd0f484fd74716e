"""Sweeps over REST: all jobs or none, one fetch, what is refused and where, what is left out, and whose they are."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from apiflask import APIFlask
from werkzeug.test import TestResponse

from core.errors import SourceInvalid
from core.settings import Settings
from db import keys, quotas
from db.session import Database
from db.states import Quota
from fewbits_client.cli.asking import PRESETS
from pipeline.sweep_presets import SweepPreset
from tests.api.benchmarks import MEASURED, spread
from tests.api.conftest import SOURCE, Caller, pointers, problem_of
from tests.api.test_families import model_called
from tests.api.work import CHECKS, MODEL_FACTS, Workers
from tests.conftest import TINY_LLAMA
from tests.synthetic import MODULE

RECIPES = ["gguf:Q8_0", {"method": "gguf", "type": "Q4_K_M"}, "gptq:4bit-g128"]
SHORT = ["gguf:Q8_0", "gguf:Q4_K_M", "gptq:4bit-g128"]
ASKED = {
    "evaluation": {"domains": ["prose"], "windows": 8, "tasks": [], "task_items": 200},
    "metadata": {"a": "b"},
    "labels": ["x"],
    "priority": 5,
    "max_runtime_seconds": 100,
    "max_pending_seconds": 200,
    "max_attempts": 2,
    "wait_for_capacity": True,
}
MEASURES: dict[str, dict[str, float | None]] = {
    "perplexity_ratio": {"value": 1.01, "low": 1.006, "high": 1.014},
    "agreement": {"value": 0.97, "low": 0.96, "high": 0.98},
}

SetQuota = Callable[[int | None], None]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    prices = {"price_cpu_hour": 0.36, "price_gpu_hour": 3.6, "price_gib_month": 0.1, "price_currency": "EUR"}
    return settings.model_copy(
        update={"source_roots": (Path("/models"), TINY_LLAMA, tmp_path), "method_modules": (MODULE,), **prices}
    )


@pytest.fixture
def set_quota(caller: Caller, database: Database) -> SetQuota:
    team = database.run(partial(keys.authenticate, key=caller.key))
    name = Quota.QUEUED_JOBS
    return lambda maximum: database.run(partial(quotas.set_quota, team_id=team, name=name, maximum=maximum))


def send(caller: Caller, **fields: Any) -> TestResponse:
    return caller.post("/v1/sweeps", {"source": SOURCE, **fields})


def submit(caller: Caller, recipes: Any = RECIPES, **fields: Any) -> dict[str, Any]:
    response = send(caller, recipes=recipes, **fields)
    assert response.status_code == 201, response.text
    sweep: dict[str, Any] = response.get_json()
    return sweep


def get(caller: Caller, sweep: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = caller.get(f"/v1/sweeps/{sweep['id']}").get_json()
    return found


def jobs(caller: Caller, query: str = "") -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = caller.get(f"/v1/jobs?limit=100&{query}").get_json()["data"]
    return data


def test_a_sweep_is_a_job_for_each_recipe_with_all_that_was_asked(caller: Caller) -> None:
    response = send(caller, recipes=RECIPES, **ASKED)
    assert response.status_code == 201
    sweep = response.get_json()
    assert response.headers["Location"] == f"/v1/sweeps/{sweep['id']}"
    assert sweep["id"].startswith("sweep_")
    assert (sweep["object"], sweep["status"], sweep["jobs"]) == ("sweep", "queued", {"queued": 3})
    assert (sweep["source"], sweep["preset"], sweep["warnings"]) == (SOURCE, None, [])
    assert {name: sweep[name] for name in ASKED} == ASKED
    assert [row["recipe"] for row in sweep["rows"]] == SHORT
    made = {job["id"]: job for job in jobs(caller, f"sweep={sweep['id']}")}
    assert [made[row["job"]]["recipe"] for row in sweep["rows"]] == SHORT
    for job in made.values():
        assert {name: job[name] for name in ASKED} == ASKED
        assert job["sweep"] == sweep["id"]
    assert get(caller, sweep) == sweep


def test_jobs_of_a_sweep_are_found_by_it(caller: Caller) -> None:
    first, second = submit(caller), submit(caller, ["gguf"])
    alone = caller.submit()
    assert alone["sweep"] is None
    assert len(jobs(caller, f"sweep={first['id']}")) == 3
    assert [job["sweep"] for job in jobs(caller, f"sweep={second['id']}")] == [second["id"]]
    assert len(jobs(caller)) == 5
    assert jobs(caller, "sweep=sweep_none") == []


def test_sweeps_are_listed_newest_first_without_what_is_inside(caller: Caller, stranger: Caller) -> None:
    made = [submit(caller, ["gguf"])["id"] for _ in range(3)]
    submit(stranger, ["gguf"])
    page = caller.get("/v1/sweeps?limit=2").get_json()
    assert ([sweep["id"] for sweep in page["data"]], page["has_more"]) == (made[:0:-1], True)
    assert page["data"][0]["jobs"] == {"queued": 1}
    assert {page["data"][0][name] for name in ("rows", "recommendation", "seconds", "cost")} == {None}
    page = caller.get(f"/v1/sweeps?limit=2&after={made[1]}").get_json()
    assert ([sweep["id"] for sweep in page["data"]], page["has_more"]) == (made[:1], False)
    assert pointers(caller.get("/v1/sweeps?after=sweep_none")) == ["/after"]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"recipes": ["gguf", "nothing"]}, "/recipes/1/method"),
        ({"recipes": ["gguf", {"method": "gguf", "type": "Q9"}]}, "/recipes/1/type"),
        ({"recipes": ["gguf", "gptq:5bit"]}, "/recipes/1/bits"),
        ({"recipes": ["gguf", "gptq:best"]}, "/recipes/1"),
        ({"recipes": ["gguf:Q4_K_M", "gguf:Q8_0", "gguf"]}, "/recipes/2"),
        ({"recipes": ["gguf", {"method": "gguf", "type": "Q4_K_M"}]}, "/recipes/1"),
        ({"recipes": [["gguf"]]}, "/recipes/0"),
        ({"recipes": []}, "/recipes"),
        ({"recipes": ["gguf"] * 65}, "/recipes"),
        ({"preset": "best"}, "/preset"),
        ({"preset": None}, "/preset"),
        ({"recipes": ["gguf"], "preset": "gguf-all"}, ""),
        ({}, ""),
        ({"recipes": ["gguf"], "recipe": "gguf"}, "/recipe"),
        ({"recipes": ["gguf"], "max_attempts": 1000}, "/max_attempts"),
        ({"preset": "gguf-all", "max_attempts": 1000}, "/max_attempts"),
        ({"preset": "gguf-all", "source": "file:///etc"}, "/source"),
        ({"recipes": ["gguf"], "source": "file:///etc"}, "/source"),
        ({"recipes": ["gguf"], "publish_to": "file:///elsewhere"}, "/publish_to"),
        ({"recipes": ["gguf"], "gate": ["poems: agreement >= 0.9"]}, "/gate/0/domain"),
        ({"preset": "gguf-all", "gate": ["poems: agreement >= 0.9"]}, "/gate/0/domain"),
        ({"recipes": ["gguf"], "evaluation": {"domains": ["poems"]}}, "/evaluation/domains/0"),
    ],
    ids=str,
)
def test_what_is_refused_is_named_and_nothing_is_made(caller: Caller, fields: dict[str, Any], where: str) -> None:
    response = send(caller, **fields)
    assert response.status_code == 422
    assert pointers(response) == [where]
    assert jobs(caller) == []
    assert caller.get("/v1/sweeps").get_json()["data"] == []


def test_a_recipe_that_does_not_go_with_the_model_refuses_all(caller: Caller) -> None:
    response = send(caller, source=TINY_LLAMA.as_uri(), recipes=["gguf", "gptq:4bit-g1024"])
    assert response.status_code == 422
    assert pointers(response) == ["/recipes/1/group_size"]
    assert jobs(caller) == []


def test_a_recipe_that_is_there_twice_is_named(caller: Caller) -> None:
    detail = problem_of(send(caller, recipes=["gguf:Q8_0", "gguf", "gguf:Q4_K_M"]))["detail"]
    assert detail == "This is gguf:Q4_K_M, as recipes/1 is. Leave it out."


def test_of_a_preset_what_does_not_fit_is_left_out_and_told(caller: Caller, tmp_path: Path) -> None:
    response = send(caller, source=model_called("Phi3ForCausalLM", tmp_path), preset="everything")
    assert response.status_code == 201, response.text
    sweep = response.get_json()
    assert sweep["preset"] == "everything"
    made = [row["recipe"] for row in sweep["rows"]]
    assert {"gguf:Q4_K_M", "gguf:Q8_0", "fp8", "int4:w4a16-g128", "gguf:IQ2_M+imatrix"} <= set(made)
    assert len(set(made)) == len(made)
    told = {recipe: why for recipe, _, why in (one.partition(" is left out: ") for one in sweep["warnings"])}
    assert {"gptq:4bit-g128", "gptq:4bit-g32", "awq:4bit-g128"} <= told.keys()
    assert "gate_up_proj" in told["gptq:4bit-g128"]
    assert not told.keys() & set(made)
    assert "no gpu worker of the last week has one" in told["synthetic-gpu:"]


def test_a_preset_of_which_nothing_fits_is_refused(caller: Caller, tmp_path: Path) -> None:
    response = send(caller, source=model_called("GPT2LMHeadModel", tmp_path), preset="gpu-4bit")
    assert (response.status_code, pointers(response)) == (422, ["/preset"])
    assert problem_of(response)["detail"].startswith("No recipe of the preset gpu-4bit can be used. gptq:4bit-g128 is")
    assert jobs(caller) == []


@pytest.mark.parametrize(("preset", "count"), [("gguf-all", 15), ("gpu-4bit", 4)])
def test_of_a_source_that_cannot_be_seen_a_preset_is_taken_whole(caller: Caller, preset: str, count: int) -> None:
    sweep = send(caller, preset=preset, wait_for_capacity=True).get_json()
    assert len(sweep["rows"]) == count
    assert sweep["warnings"] == []


def test_the_command_knows_every_preset() -> None:
    assert set(PRESETS) == set(get_args(SweepPreset))


def test_places_are_asked_for_all_together(caller: Caller, set_quota: SetQuota) -> None:
    set_quota(3)
    caller.submit()
    response = send(caller, recipes=RECIPES)
    assert response.status_code == 429
    assert "has 1 queued jobs, and may have 3; 3 more were asked for" in problem_of(response)["detail"]
    assert len(jobs(caller)) == 1
    submit(caller, RECIPES[:2])
    assert send(caller, preset="gguf-all").status_code == 429
    assert len(jobs(caller)) == 3


def test_the_same_request_under_one_key_makes_one_sweep(caller: Caller) -> None:
    def once(path: str, body: Any, key: str = "k1") -> TestResponse:
        return caller.client.post(path, json=body, headers={**caller.headers, "Idempotency-Key": key})

    body = {"source": SOURCE, "recipes": ["gguf"]}
    first, again = once("/v1/sweeps", body), once("/v1/sweeps", body)
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert once("/v1/sweeps", {**body, "priority": 1}).status_code == 422
    path = f"{first.headers['Location']}/recipes"
    added = once(path, {"recipes": ["gguf:Q8_0"]}, "k2")
    assert added.status_code == 201
    assert once(path, {"recipes": ["gguf:Q8_0"]}, "k2").data == added.data
    assert len(jobs(caller)) == 2


def test_a_sweep_is_extended_also_after_its_end_and_only_by_what_is_new(caller: Caller) -> None:
    sweep = submit(caller, **ASKED)
    path = f"/v1/sweeps/{sweep['id']}"
    caller.post(f"{path}/cancel")
    response = caller.post(f"{path}/recipes", {"recipes": ["gguf:Q6_K", "gguf:Q2_K"]})
    assert response.status_code == 201
    assert response.headers["Location"] == path
    extended = response.get_json()
    assert [row["recipe"] for row in extended["rows"]] == [*SHORT, "gguf:Q6_K", "gguf:Q2_K"]
    assert (extended["status"], extended["jobs"]) == ("running", {"cancelled": 3, "queued": 2})
    added = caller.get(f"/v1/jobs/{extended['rows'][-1]['job']}").get_json()
    assert {name: added[name] for name in ASKED} == ASKED
    known = caller.post(f"{path}/recipes", {"recipes": ["gguf:Q5_0", "gguf"]})
    assert (known.status_code, pointers(known)) == (422, ["/recipes/1"])
    assert "This is gguf:Q4_K_M, which the sweep has already and is cancelled." in problem_of(known)["detail"]
    assert len(jobs(caller)) == 5
    assert pointers(caller.post(f"{path}/recipes", {"recipes": ["gguf:Q5_0"], "preset": "gguf-all"})) == ["/preset"]


def test_a_sweep_has_an_end(caller: Caller) -> None:
    sweep = submit(caller, [{"method": "gptq", "seed": seed} for seed in range(64)])
    response = caller.post(f"/v1/sweeps/{sweep['id']}/recipes", {"recipes": ["gguf"]})
    assert response.status_code == 409
    assert "takes 64 recipes" in problem_of(response)["detail"]


def test_a_sweep_is_cancelled_whole(caller: Caller) -> None:
    path = f"/v1/sweeps/{submit(caller)['id']}/cancel"
    for _ in range(2):
        cancelled = caller.post(path).get_json()
        assert (cancelled["status"], cancelled["jobs"]) == ("cancelled", {"cancelled": 3})


def test_what_has_ended_otherwise_cannot_be_cancelled(caller: Caller, database: Database) -> None:
    sweep, work = submit(caller, ["gguf"]), Workers(database)
    work.fail(work.start("fetch"), SourceInvalid("It has no config.json."))
    response = caller.post(f"/v1/sweeps/{sweep['id']}/cancel")
    assert response.status_code == 409
    failed = get(caller, sweep)
    assert (failed["status"], failed["jobs"]) == ("failed", {"failed": 1})
    assert failed["rows"][0]["error"]["code"] == "source_invalid"
    assert failed["recommendation"]["reason"] == "No job has brought a result that was measured."


def test_a_retry_takes_its_place_in_the_sweep(caller: Caller, database: Database) -> None:
    sweep, work = submit(caller, ["gguf"]), Workers(database)
    work.fail(work.start("fetch"), SourceInvalid("It has no config.json."))
    again = caller.post(f"/v1/jobs/{sweep['rows'][0]['job']}/retry").get_json()
    assert again["sweep"] == sweep["id"]
    assert [row["job"] for row in get(caller, sweep)["rows"]] == [again["id"]]
    assert get(caller, sweep)["status"] == "queued"
    refused = caller.post(f"/v1/jobs/{sweep['rows'][0]['job']}/retry")
    assert refused.status_code == 409
    assert f"retried already, as {again['id']}" in problem_of(refused)["detail"]


def test_of_many_retries_at_once_one_takes_the_place(app: APIFlask, caller: Caller, database: Database) -> None:
    sweep, work = submit(caller, ["gguf"]), Workers(database)
    work.fail(work.start("fetch"), SourceInvalid("It has no config.json."))
    answers: list[int] = []
    clients = [Caller(app.test_client(), caller.key) for _ in range(4)]
    path = f"/v1/jobs/{sweep['rows'][0]['job']}/retry"
    threads = [threading.Thread(target=lambda one=one: answers.append(one.post(path).status_code)) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 409, 409, 409]


def test_a_recipe_that_has_failed_is_retried_and_not_added_again(caller: Caller, database: Database) -> None:
    sweep, work = submit(caller, ["gguf"]), Workers(database)
    work.fail(work.start("fetch"), SourceInvalid("It has no config.json."))
    refused = caller.post(f"/v1/sweeps/{sweep['id']}/recipes", {"recipes": ["gguf"]})
    assert refused.status_code == 422
    assert f"POST /v1/jobs/{sweep['rows'][0]['job']}/retry" in problem_of(refused)["detail"]


def test_each_result_is_published_to_a_folder_of_its_own(caller: Caller) -> None:
    recipes = [*SHORT, {"method": "gptq", "seed": 7}, {"method": "gptq", "seed": 8}]
    sweep = submit(caller, recipes, publish_to="file:///published/m/")
    made = {job["id"]: job["publish_to"] for job in jobs(caller)}
    folders = [made[row["job"]] for row in sweep["rows"]]
    assert folders[:3] == [f"file:///published/m/{name}" for name in ("gguf-Q8_0", "gguf-Q4_K_M", "gptq-4bit-g128")]
    assert all(folder.startswith("file:///published/m/gptq-4bit-g128-") for folder in folders[3:])
    assert len(set(folders)) == 5
    path = f"/v1/sweeps/{sweep['id']}/recipes"
    extended = caller.post(path, {"recipes": [{"method": "gguf", "type": "Q8_0", "output_type": "f16"}]}).get_json()
    added = caller.get(f"/v1/jobs/{extended['rows'][-1]['job']}").get_json()["publish_to"]
    assert added.startswith("file:///published/m/gguf-Q8_0-")


def test_nothing_of_it_is_another_teams(caller: Caller, stranger: Caller) -> None:
    sweep = submit(caller)
    path = f"/v1/sweeps/{sweep['id']}"
    for response in (
        stranger.get(path),
        stranger.post(f"{path}/cancel"),
        stranger.post(f"{path}/recipes", {"recipes": ["gguf"]}),
    ):
        assert (response.status_code, problem_of(response)["code"]) == (404, "not_found")
    assert jobs(stranger, f"sweep={sweep['id']}") == []
    assert get(caller, sweep) == sweep


def test_the_answer_has_what_was_measured_and_what_it_took(caller: Caller, database: Database) -> None:
    sweep = submit(caller, ["gguf:Q4_K_M"], **ASKED)
    Workers(database).do_all()
    with database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE attempts SET ended_at = started_at + interval '100 s'")
    found = get(caller, sweep)
    assert found["status"] == "succeeded"
    (row,) = found["rows"]
    assert (row["size_bytes"], row["bits_per_weight"], row["error"]) == (300, 4.8, None)
    assert row["seconds"] == found["seconds"] == {"cpu": 600.0, "gpu": 100.0}
    assert row["cost"]["work"] == pytest.approx(0.06 + 0.1)
    assert row["cost"]["keeping_per_month"] == pytest.approx(300 / 2**30 * 0.1)
    assert row["cost"]["serving_per_million_tokens"] is None
    assert found["cost"]["currency"] == "EUR"
    assert (found["cost"]["work"], found["cost"]["shared_work"]) == (row["cost"]["work"], 0)


def test_the_answer_says_which_result_to_ship(caller: Caller, database: Database) -> None:
    sweep, work = submit(caller, ["gguf:Q8_0"]), Workers(database)
    work.do("fetch", MODEL_FACTS)
    work.do("convert")
    work.do("quantize", {"size_bytes": 4_900_000_000, "bits_per_weight": 8.5})
    work.do("reference", perplexity={"prose": 23.7, "code": 7.5})
    work.do("verify", {"checks": CHECKS})
    work.do("evaluate", perplexity={"prose": 24.4, "code": 7.7}, measures=MEASURES)
    work.do("document")
    caller.post(f"/v1/sweeps/{sweep['id']}/recipes", {"recipes": ["gguf:Q4_K_M"]})
    found = get(caller, sweep)
    (row,) = (row for row in found["rows"] if row["status"] == "succeeded")
    assert row["pareto"]
    assert row["comparison"].keys() == {"prose", "code"}
    assert row["comparison"]["code"]["perplexity_ratio"] == MEASURES["perplexity_ratio"]
    recommendation = found["recommendation"]
    assert (recommendation["job"], recommendation["recipe"]) == (row["job"], row["recipe"])
    assert recommendation["provisional"]
    assert [condition["short"] for condition in recommendation["conditions"]] == [
        "perplexity_ratio <= 1.02",
        "agreement >= 0.95",
    ]
    assert recommendation["reason"] == (
        "Provisional, as 1 of 2 jobs are not over: gguf:Q8_0 (4.9 GB) is the one result, and keeps prose and code "
        "perplexity within 2 % (at most +1.4 % on prose) and prose and code agreement above 95 % (at least 96.0 % on "
        "prose)."
    )


def test_the_gate_of_a_sweep_is_that_of_its_jobs(caller: Caller) -> None:
    asked = ["code: perplexity_ratio <= 1.05", {"metric": "agreement", "min": 0.9}]
    sweep = submit(caller, gate=asked)
    assert [condition["short"] for condition in sweep["gate"]] == [asked[0], "agreement >= 0.9"]
    assert sweep["recommendation"]["conditions"] == sweep["gate"]
    assert all(job["gate"] == sweep["gate"] for job in jobs(caller))
    extended = caller.post(f"/v1/sweeps/{sweep['id']}/recipes", {"recipes": ["gguf:Q6_K"]}).get_json()
    added = caller.get(f"/v1/jobs/{extended['rows'][-1]['job']}").get_json()
    assert added["gate"] == sweep["gate"]


def test_a_row_has_its_speed_alone_and_what_serving_costs_where_it_was_measured(
    caller: Caller, database: Database
) -> None:
    asked = {"context_tokens": [512, 128], "batch_sizes": [1, 4]}
    sweep, work = submit(caller, ["gguf:Q8_0"], benchmark=asked), Workers(database)
    assert sweep["benchmark"] == {**asked, "generated_tokens": 64, "repeats": 3}
    speeds = {(512, 1): 20.0, (512, 4): 60.0, (128, 1): 25.0, (128, 4): 80.0}
    points = [
        {
            **MEASURED["points"][0],
            "context_tokens": context,
            "batch_size": batch,
            "generation_tokens_per_second": spread(speed),
        }
        for (context, batch), speed in speeds.items()
    ]
    bring_to_its_end(work, 500, 1.01, points)
    (row,) = get(caller, sweep)["rows"]
    assert row["generation_tokens_per_second"] == 25.0
    assert row["cost"]["serving_per_million_tokens"] == pytest.approx(1e6 / 25 / 3600 * 0.36)  # of the pool cpu


def test_a_result_that_is_larger_and_loses_more_may_be_the_fastest(caller: Caller, database: Database) -> None:
    sweep, work = submit(caller, ["gguf:Q8_0"], benchmark={}), Workers(database)

    def speed(median: float) -> list[dict[str, Any]]:
        return [{**MEASURED["points"][0], "batch_size": 1, "generation_tokens_per_second": spread(median)}]

    bring_to_its_end(work, 500, 1.01, speed(20.0))
    for number, (recipe, median) in enumerate((("gguf:Q6_K", 30.0), ("gguf:Q5_K_M", 10.0)), 1):
        caller.post(f"/v1/sweeps/{sweep['id']}/recipes", {"recipes": [recipe]})
        bring_to_its_end(work, 500 + number, 1.01 + number / 100, speed(median))
    assert {row["recipe"]: row["pareto"] for row in get(caller, sweep)["rows"]} == {
        "gguf:Q8_0": True,
        "gguf:Q6_K": True,
        "gguf:Q5_K_M": False,
    }


def bring_to_its_end(work: Workers, size_bytes: int, ratio: float, points: list[dict[str, Any]]) -> None:
    """Bring the one job that is not over to its end."""
    measures = {"perplexity_ratio": {"value": ratio, "low": ratio, "high": ratio}}
    work.do("fetch", MODEL_FACTS)
    work.do("convert")
    work.do("quantize", {"size_bytes": size_bytes, "bits_per_weight": 5.0})
    work.do("reference", perplexity={"prose": 23.7, "code": 7.5})
    work.do("verify", {"checks": CHECKS})
    work.bind()
    for _ in range(2):
        taken = work.claim("cpu")
        assert taken is not None
        if taken.kind == "evaluate":
            work.finish(taken, perplexity={"prose": 24.4, "code": 7.7}, measures=measures)
        else:
            work.finish(taken, {**MEASURED, "points": points})
    work.do("document")


def test_without_prices_no_costs_are_shown(caller: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("price_cpu_hour", "price_gpu_hour", "price_gib_month"):
        monkeypatch.setitem(settings.__dict__, name, None)
    sweep = submit(caller, ["gguf"])
    assert (sweep["cost"], sweep["rows"][0]["cost"]) == (None, None)
