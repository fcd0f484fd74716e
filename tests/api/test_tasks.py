"""Tasks of an evaluation: datasets of the team by which a result is judged, from the request to the result."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from api.app import create_app
from api.gating import TASK_METRICS
from api.results import TaskComparison
from api.services import services_of
from core.settings import Settings
from db.session import Database
from tests.api.conftest import SOURCE, Caller, pointers, problem_of
from tests.api.test_datasets import COMPLETION, jsonl, params_of, remove
from tests.api.work import Workers

QUESTION = {"question": "2 + 2 =", "choices": ["3", "4"], "answer": 1}
REFERENCE = {"prompt": "Say hello.", "reference": "hello"}
CODE = {"prompt": "def add(a, b):\n", "tests": "assert add(1, 2) == 3"}
UNKNOWN = "dataset_" + "0" * 26
ACCURACY = {"value": 0.71, "low": 0.66, "high": 0.76}
DROP = {"value": 0.02, "low": -0.01, "high": 0.05}


def judged_by(*tasks: str, gate: Any = (), method: str = "gguf", **evaluation: Any) -> dict[str, Any]:
    wanted = {"domains": ["prose"], "tasks": [*tasks], **evaluation}
    return {"source": SOURCE, "recipe": method, "evaluation": wanted, "gate": [*gate]}


def test_a_job_is_judged_by_tasks_of_its_team(caller: Caller, database: Database) -> None:
    text, task = jsonl(caller, COMPLETION), jsonl(caller, QUESTION)
    wanted = judged_by(task, gate=["accuracy_drop <= 0.05"], method="gptq", domains=["prose", text], task_items=50)
    job = caller.post("/v1/jobs", wanted).get_json()
    assert (job["evaluation"]["tasks"], job["evaluation"]["task_items"]) == ([task], 50)
    for kind, items in (("reference", 200), ("evaluate", 50), ("document", 50)):
        params = params_of(database, kind)
        assert (params["tasks"], params["task_items"]) == ([task], items)
        assert {name: one["kind"] for name, one in params["datasets"].items()} == {
            text: "completion",
            task: "multiple_choice",
        }
    looked_at = params_of(database, "calibrate")
    assert looked_at.keys() & {"tasks", "task_items"} == set()
    assert [*looked_at["datasets"]] == [text]
    assert params_of(database, "evaluate")["gate"] == [{"metric": "accuracy_drop", "task": None, "max": 0.05}]


def test_a_gate_that_cannot_pass_is_told_of(caller: Caller) -> None:
    task = jsonl(caller, QUESTION)
    wanted = judged_by(task, gate=["accuracy_drop <= 0.01", "perplexity_ratio <= 1.02"], windows=1)
    job = caller.post("/v1/jobs", wanted).get_json()
    events = caller.get(f"/v1/jobs/{job['id']}/events").get_json()["data"]
    told = [event["message"] for event in events if event["level"] == "warn"]
    for said in (caller.post("/v1/plan", wanted).get_json()["warnings"], told):
        assert f"{task}: accuracy_drop <= 0.01 cannot pass on 1 items" in said[-2]
        assert "prose: perplexity_ratio <= 1.02 cannot pass on 4 items" in said[-1]


def test_a_plan_without_tasks_is_the_one_that_it_was(caller: Caller, database: Database) -> None:
    """Or results of before would not be reused."""
    caller.post("/v1/jobs", judged_by(gate=["agreement >= 0.9"]))
    for kind in ("reference", "evaluate", "document"):
        assert params_of(database, kind).keys() & {"tasks", "task_items", "datasets"} == set()
    assert params_of(database, "evaluate")["gate"] == [{"metric": "agreement", "domain": None, "min": 0.9}]


def test_a_task_is_kept_while_a_job_needs_it(caller: Caller) -> None:
    task = jsonl(caller, QUESTION)
    job = caller.post("/v1/jobs", judged_by(task)).get_json()
    assert remove(caller, task).status_code == 409
    caller.post(f"/v1/jobs/{job['id']}/cancel")
    assert remove(caller, task).status_code == 200
    assert pointers(caller.post(f"/v1/jobs/{job['id']}/retry")) == ["/evaluation/tasks/0"]


def test_programs_are_not_run_unless_the_operator_allows_it(caller: Caller) -> None:
    answer = caller.post("/v1/jobs", judged_by(jsonl(caller, QUESTION), jsonl(caller, CODE)))
    assert (answer.status_code, pointers(answer)) == (422, ["/evaluation/tasks/1"])
    assert "Your operator allows that by FEWBITS_CODE_EXECUTION." in problem_of(answer)["detail"]


def test_where_the_operator_allows_it_a_task_may_be_of_code(
    settings: Settings, database: Database, caller: Caller
) -> None:
    allowing = create_app(settings.model_copy(update={"code_execution": True}), database)
    task = jsonl(caller, CODE)
    answer = Caller(allowing.test_client(), caller.key).post("/v1/jobs", judged_by(task))
    assert (answer.status_code, answer.get_json()["evaluation"]["tasks"]) == (201, [task])
    services_of(allowing).feed.close()


def test_what_cannot_be_a_task_is_refused_by_its_place(caller: Caller, stranger: Caller) -> None:
    task = jsonl(caller, QUESTION)
    for wrong, says in (
        (jsonl(caller, COMPLETION), "of kind completion; a task must be of kind multiple_choice"),
        (jsonl(stranger, QUESTION), "There is no dataset"),
        (UNKNOWN, "There is no dataset"),
        ("prose", "id of a dataset of your team"),
    ):
        answer = caller.post("/v1/jobs", judged_by(task, wrong))
        assert (answer.status_code, pointers(answer)) == (422, ["/evaluation/tasks/1"])
        assert says in json.dumps(problem_of(answer))
    assert pointers(caller.post("/v1/jobs", judged_by(task, task))) == ["/evaluation/tasks"]
    assert pointers(caller.post("/v1/jobs", judged_by(task, task_items=0))) == ["/evaluation/task_items"]


@pytest.mark.parametrize(
    ("condition", "stored"),
    [
        ("accuracy_drop<=0.01", {"metric": "accuracy_drop", "task": None, "max": 0.01}),
        ("{task} : accuracy >= 0.7", {"metric": "accuracy", "task": "{task}", "min": 0.7}),
        ({"metric": "rouge_l_drop", "max": 0.5}, {"metric": "rouge_l_drop", "domain": None, "min": None}),
        ({"metric": "rouge_l", "task": "{task}", "min": 1}, {"metric": "rouge_l", "task": "{task}", "min": 1}),
    ],
)
def test_a_condition_of_tasks_has_a_short_and_a_long_form(
    caller: Caller, condition: Any, stored: Mapping[str, Any]
) -> None:
    task = jsonl(caller, REFERENCE)
    condition, stored = json.loads(json.dumps([condition, stored]).replace("{task}", task))
    job = caller.post("/v1/jobs", judged_by(task, gate=[condition])).get_json()
    assert stored.items() <= job["gate"][0].items()
    again = caller.post("/v1/jobs", judged_by(task, gate=[job["gate"][0]["short"]])).get_json()
    assert again["gate"] == job["gate"]


@pytest.mark.parametrize(
    ("condition", "pointer", "says"),
    [
        (f"{UNKNOWN}: accuracy >= 0.5", "/gate/0/task", "Name one of evaluation.tasks"),
        ("rouge_l >= 0.5", "/gate/0/metric", "of kind reference alone"),
        ("{task}: rouge_l_drop <= 0.5", "/gate/0/task", "of kind reference alone"),
        ("prose: accuracy >= 0.5", "/gate/0", "such as"),
        ("accuracy <= 0.5", "/gate/0", "such as"),
        ("accuracy_drop <= 2", "/gate/0", "such as"),
        ({"metric": "accuracy", "domain": "prose", "min": 0.5}, "/gate/0/domain", "not permitted"),
        ({"metric": "agreement", "task": "{task}", "min": 0.5}, "/gate/0/task", "not permitted"),
    ],
)
def test_a_wrong_condition_of_tasks_is_refused(caller: Caller, condition: Any, pointer: str, says: str) -> None:
    task = jsonl(caller, QUESTION)
    gate = [json.loads(json.dumps(condition).replace("{task}", task))]
    response = caller.post("/v1/jobs", judged_by(task, gate=gate))
    assert (response.status_code, pointers(response)) == (422, [pointer])
    assert says in problem_of(response)["detail"]


@pytest.mark.parametrize("metric", ["accuracy_drop <= 0.1", "rouge_l >= 0.1"])
def test_a_gate_on_tasks_needs_a_task(caller: Caller, metric: str) -> None:
    assert pointers(caller.post("/v1/jobs", judged_by(gate=[metric]))) == ["/gate/0/metric"]


def found_by(task: str) -> dict[str, Any]:
    return {
        "tasks": {
            task: {
                "items": 50,
                "baseline": {"accuracy": 0.73},
                "measures": {"accuracy": ACCURACY, "accuracy_drop": DROP},
            }
        }
    }


def test_a_result_tells_what_was_lost_in_each_task(caller: Caller, database: Database) -> None:
    task = jsonl(caller, QUESTION)
    gate = {"metric": "accuracy_drop", "domain": None, "task": task, "max": 0.01, "min": None}
    job_id = caller.post("/v1/jobs", judged_by(task, gate=["accuracy_drop <= 0.01"])).get_json()["id"]
    decided = {"verdict": "blocked", "looks": 3, "gate": [{**gate, "measured": DROP, "decision": "undecided"}]}
    Workers(database).do_all(decided={**decided, **found_by(task)})
    result = caller.get(f"/v1/jobs/{job_id}").get_json()["result"]
    assert result["tasks"] == {
        task: {
            "items": 50,
            "baseline": {"accuracy": 0.73, "rouge_l": None},
            "accuracy": ACCURACY,
            "accuracy_drop": DROP,
            "rouge_l": None,
            "rouge_l_drop": None,
        }
    }
    short = f"{task}: accuracy_drop <= 0.01"
    assert result["gate"] == [{**gate, "short": short, "measured": DROP, "decision": "undecided"}]


def test_a_sweep_compares_results_by_tasks(caller: Caller, database: Database) -> None:
    task = jsonl(caller, QUESTION)
    terms = {name: value for name, value in judged_by(task, gate=["accuracy_drop <= 0.06"]).items() if name != "recipe"}
    sweep = caller.post("/v1/sweeps", {**terms, "recipes": ["gguf:Q8_0"]}).get_json()
    assert (sweep["evaluation"]["tasks"], sweep["gate"][0]["metric"]) == ([task], "accuracy_drop")
    Workers(database).do_all(decided=found_by(task))
    found = caller.get(f"/v1/sweeps/{sweep['id']}").get_json()
    assert found["rows"][0]["tasks"][task]["accuracy_drop"] == DROP
    recommendation = found["recommendation"]
    assert recommendation["job"] == found["rows"][0]["job"]
    assert f"{task} loss of accuracy below 6 % (at most 5.0 %)" in recommendation["reason"]
    assert recommendation["conditions"] == found["gate"]
    page = caller.get(f"/v1/sweeps/{sweep['id']}/report", Accept="text/html").text
    assert "71.0 % [66.0, 76.0]" in page
    assert "2.0 [-1.0, 5.0]" in page


def test_a_result_has_a_place_for_each_metric() -> None:
    assert set(TASK_METRICS) <= TaskComparison.model_fields.keys()
