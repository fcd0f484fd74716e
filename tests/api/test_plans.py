"""What a job would come to is told without writing anything: steps, forecasts, refusals."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from core.ids import TeamId
from core.settings import Settings
from db import quotas
from db.session import Database
from db.states import Quota
from db.tables import Job, Team, Worker
from tests.api.conftest import SOURCE, Caller, pointers, problem_of
from tests.api.work import register
from tests.conftest import TINY_LLAMA


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"source_roots": (Path("/models"), TINY_LLAMA.parent)})


def plan(caller: Caller, recipe: Any = "gguf:Q4_K_M", source: str = TINY_LLAMA.as_uri(), **fields: Any) -> Any:
    response = caller.post("/v1/plan", {"source": source, "recipe": recipe, **fields})
    assert response.status_code == 200, response.text
    return response.get_json()


def refusals(planned: Any) -> list[tuple[str, str | None]]:
    return [(refusal["code"], refusal["param"]) for refusal in planned["refusals"]]


def test_each_step_comes_with_what_it_will_need_and_nothing_is_written(caller: Caller, database: Database) -> None:
    planned = plan(caller, {"method": "gguf", "type": "Q4_K_M", "imatrix": True})
    assert planned["object"] == "plan"
    assert planned["recipe"] == "gguf:Q4_K_M+imatrix"
    assert planned["model"]["architecture"] == "LlamaForCausalLM"
    kinds = ["fetch", "convert", "calibrate", "imatrix", "quantize", "reference", "verify", "evaluate", "document"]
    assert [step["kind"] for step in planned["steps"]] == kinds
    assert all(step["memory_bytes"] > 0 and not step["reused"] and not step["refused"] for step in planned["steps"])
    assert 0 < planned["result_bytes"] < planned["model"]["size_bytes"]
    assert planned["refusals"] == []
    assert planned["fetched_at"] is None
    assert database.run(lambda session: session.scalars(select(Job)).all()) == []


def test_all_that_speaks_against_a_job_is_told_at_once(caller: Caller, database: Database) -> None:
    with database.transaction() as session:
        session.execute(delete(Worker))
        team = TeamId(session.scalars(select(Team.id)).one())
        quotas.set_quota(session, team, Quota.QUEUED_JOBS, 0)
    register(database, "cpu")
    planned = plan(caller, "gptq:4bit-g512", max_attempts=1000)
    assert refusals(planned) == [
        ("invalid_request", "max_attempts"),
        ("invalid_request", "recipe.group_size"),
        ("no_capacity", "recipe"),
        ("quota_exceeded", None),
    ]
    refused = {step["kind"]: step["refused"] for step in planned["steps"]}
    assert refused["fetch"] is None
    assert refused["quantize"].startswith("Quantize needs ")
    assert refused["evaluate"].startswith("Evaluate needs ")


def test_what_it_says_first_is_what_submitting_says(caller: Caller) -> None:
    for recipe in ("gptq:4bit-g512", {"method": "gptq", "lm_head": True}):
        [refusal] = plan(caller, recipe)["refusals"]
        response = caller.post("/v1/jobs", {"source": TINY_LLAMA.as_uri(), "recipe": recipe})
        assert response.status_code == 422
        assert problem_of(response)["detail"] == refusal["message"]
        assert pointers(response) == ["/" + refusal["param"].replace(".", "/")]


def test_a_job_that_waits_for_a_worker_is_no_refusal(caller: Caller, database: Database) -> None:
    with database.transaction() as session:
        session.execute(delete(Worker))
    planned = plan(caller, wait_for_capacity=True)
    assert planned["refusals"] == []
    assert "The job waits for one." in planned["warnings"][-1]


def test_of_a_source_that_cannot_be_seen_nothing_is_forecast(caller: Caller) -> None:
    planned = plan(caller, source=SOURCE)
    assert planned["model"] is None
    assert planned["result_bytes"] is None
    assert {step["memory_bytes"] for step in planned["steps"]} == {None}
    assert planned["refusals"] == []


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"recipe": "gguf:Q4_K_X"}, "/recipe/type"),
        ({"source": "file:///etc/models"}, "/source"),
        ({"priority": 1000}, "/priority"),
        ({"publish_to": "file:///etc/x"}, "/publish_to"),
    ],
)
def test_what_cannot_be_planned_at_all_gets_the_problem_of_submitting_it(
    caller: Caller, fields: dict[str, Any], pointer: str
) -> None:
    body = {"source": TINY_LLAMA.as_uri(), "recipe": "gguf:Q4_K_M", **fields}
    responses = [caller.post(path, body) for path in ("/v1/plan", "/v1/jobs")]
    assert [response.status_code for response in responses] == [422, 422]
    assert [pointers(response) for response in responses] == [[pointer], [pointer]]
    assert problem_of(responses[0])["detail"] == problem_of(responses[1])["detail"]
