"""A retry is a new job with the same request; the old one stays as it ended."""

from typing import Any

import pytest
from sqlalchemy import delete, update

from core.errors import SourceInvalid
from db.session import Database
from db.tables import Job, Step
from tests.api.conftest import Caller, problem_of
from tests.api.work import Workers

ASKED = {
    "recipe": {"method": "gguf", "type": "Q8_0"},
    "evaluation": {"domains": ["code"], "windows": 3},
    "metadata": {"ticket": "A-1"},
    "labels": ["nightly", "team/a"],
    "priority": -7,
    "max_runtime_seconds": 60,
    "max_pending_seconds": 90,
    "max_attempts": 5,
    "wait_for_capacity": True,
    "publish_to": "file:///published/model",
}
# What differs between a job and its retry; all the rest is the request, and must be the same.
OF_ITS_OWN = {"id", "created_at", "started_at", "finished_at", "status", "error", "steps", "result", "retry_of"}


def cancel(caller: Caller, job_id: str) -> None:
    caller.post(f"/v1/jobs/{job_id}/cancel")


def end_as(status: str, caller: Caller, database: Database, job_id: str) -> None:
    """Bring the one job that there is to its end."""
    work = Workers(database)
    if status == "succeeded":
        work.do_all()
        if caller.get(f"/v1/jobs/{job_id}").get_json()["publish_to"]:
            work.do("publish")
    elif status == "failed":
        work.fail(work.start("fetch"), SourceInvalid("It has no config.json."))
    else:
        cancel(caller, job_id)


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_retry_asks_for_the_same_again(caller: Caller, database: Database, status: str) -> None:
    old = caller.submit(**ASKED)
    end_as(status, caller, database, old["id"])
    before = caller.get(f"/v1/jobs/{old['id']}").get_json()
    assert before["status"] == status

    response = caller.post(f"/v1/jobs/{old['id']}/retry")

    assert response.status_code == 201
    new = response.get_json()
    assert response.headers["Location"] == f"/v1/jobs/{new['id']}"
    assert (new["retry_of"], new["status"]) == (old["id"], "queued")
    assert {name: new[name] for name in new.keys() - OF_ITS_OWN} == {
        name: old[name] for name in old.keys() - OF_ITS_OWN
    }
    assert [(step["kind"], step["status"]) for step in new["steps"]] == [
        (step["kind"], step["status"]) for step in old["steps"]
    ]
    assert caller.get(f"/v1/jobs/{old['id']}").get_json() == before


def test_a_job_that_is_not_over_is_not_retried(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    work = Workers(database)
    for status in ("queued", "running", "cancelling"):
        if status == "running":
            work.start("fetch")
        if status == "cancelling":
            cancel(caller, job_id)
        response = caller.post(f"/v1/jobs/{job_id}/retry")
        assert response.status_code == 409
        assert f"The job is {status}" in problem_of(response)["detail"]
    assert len(caller.get("/v1/jobs").get_json()["data"]) == 1


@pytest.mark.parametrize(
    ("column", "stored", "told"),
    [
        ("recipe", {"method": "gone"}, "gone"),
        ("evaluation", {"domains": ["gone"], "windows": 3}, "/evaluation/domains/0"),
    ],
)
def test_a_request_of_an_older_version_that_is_not_taken_any_more(
    caller: Caller, database: Database, column: str, stored: dict[str, Any], told: str
) -> None:
    job_id = caller.submit()["id"]
    cancel(caller, job_id)
    database.run(lambda session: session.execute(update(Job).values({column: stored})))
    response = caller.post(f"/v1/jobs/{job_id}/retry")
    assert response.status_code == 422
    assert told in problem_of(response)["detail"]
    assert len(caller.get("/v1/jobs").get_json()["data"]) == 1


def test_a_retry_can_be_retried(caller: Caller) -> None:
    first = caller.submit()["id"]
    cancel(caller, first)
    second = caller.post(f"/v1/jobs/{first}/retry").get_json()["id"]
    cancel(caller, second)
    third = caller.post(f"/v1/jobs/{second}/retry").get_json()
    assert third["retry_of"] == second


def test_the_plan_of_a_retry_is_todays(caller: Caller, database: Database) -> None:
    """Steps are planned anew, not copied: an older version may have planned others."""
    job = caller.submit()
    cancel(caller, job["id"])
    database.run(lambda session: session.execute(delete(Step).where(Step.kind == "evaluate")))
    retried = caller.post(f"/v1/jobs/{job['id']}/retry").get_json()
    assert [step["kind"] for step in retried["steps"]] == [step["kind"] for step in job["steps"]]
