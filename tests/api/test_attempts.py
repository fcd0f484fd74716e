"""How often work is tried: what a job may ask for, and what each attempt has left behind."""

import datetime as dt
from typing import Any

import pytest

from core.errors import ChildCrashed, SourceInvalid
from core.settings import Settings
from db.room import Peaks
from db.session import Database
from tests.api.conftest import Caller, pointers, problem_of
from tests.api.work import MODEL_FACTS, TAKEN, Workers

FIELDS = [
    *("object", "step", "number", "host", "device", "started_at", "ended_at", "outcome", "error"),
    *(f"{kind}_{of_what}_bytes" for kind in ("forecast", "peak") for of_what in ("memory", "vram", "scratch")),
]


def attempts(caller: Caller, job_id: str) -> list[dict[str, Any]]:
    page = caller.get(f"/v1/jobs/{job_id}/attempts").get_json()
    assert (page["object"], page["has_more"]) == ("list", False)
    found: list[dict[str, Any]] = page["data"]
    return found


def amounts(found: list[dict[str, Any]], kind: str) -> list[list[int | None]]:
    return [[attempt[f"{kind}_{of_what}_bytes"] for of_what in ("memory", "vram", "scratch")] for attempt in found]


def test_every_attempt_is_kept_with_its_error(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    assert attempts(caller, job_id) == []
    work = Workers(database)
    work.fail(work.start("fetch"), ChildCrashed("It was killed by SIGKILL."), attempts_max=3, peaks=TAKEN)
    work.release(work.start("fetch"), Peaks(10**9, 7 * 10**9, 0))
    work.do("fetch", MODEL_FACTS)
    work.start("convert")

    found = attempts(caller, job_id)

    assert [list(attempt) for attempt in found] == [FIELDS] * 4
    assert [(attempt["step"], attempt["number"], attempt["outcome"]) for attempt in found] == [
        ("fetch", 1, "failed"),
        ("fetch", 2, "released"),
        ("fetch", 3, "succeeded"),
        ("convert", 1, None),
    ]
    assert found[0]["error"] == {"code": "child_crashed", "message": "It was killed by SIGKILL.", "param": None}
    assert [attempt["error"] for attempt in found[1:]] == [None] * 3
    assert amounts(found, "peak") == [[5 * 10**9, None, 2 * 10**9], [10**9, 7 * 10**9, 0], [None] * 3, [None] * 3]
    assert amounts(found, "forecast") == [[1, 0, 1]] * 4
    assert {(attempt["object"], attempt["host"], attempt["device"]) for attempt in found} == {
        ("job.attempt", "test", "cpu")
    }
    started = [dt.datetime.fromisoformat(attempt["started_at"]) for attempt in found]
    assert started == sorted(started)
    assert [attempt["ended_at"] is None for attempt in found] == [False, False, False, True]


def test_only_the_attempts_of_the_job_are_listed(caller: Caller, database: Database) -> None:
    first = caller.submit()["id"]
    work = Workers(database)
    work.fail(work.start("fetch"), SourceInvalid("It has no config.json."))
    second = caller.submit()["id"]
    work.start("fetch")
    assert [attempt["outcome"] for attempt in attempts(caller, first)] == ["failed"]
    assert [attempt["outcome"] for attempt in attempts(caller, second)] == [None]


def test_attempts_are_the_teams_own(caller: Caller, stranger: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    Workers(database).start("fetch")
    response = stranger.get(f"/v1/jobs/{job_id}/attempts")
    assert response.status_code == 404
    assert problem_of(response)["code"] == "not_found"
    assert caller.get("/v1/jobs/job_0/attempts").status_code == 404
    assert pointers(caller.get(f"/v1/jobs/{job_id}/attempts?limit=5")) == ["/limit"]


def test_a_log_can_be_read_of_one_attempt(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    work = Workers(database)
    for text in ("first\n", "second\n"):
        taken = work.start("fetch")
        work.log(taken, text)
        work.release(taken)

    def read(query: str) -> list[str]:
        return [chunk["text"] for chunk in caller.get(f"/v1/jobs/{job_id}/logs?{query}").get_json()["data"]]

    assert read("") == ["first\n", "second\n"]
    assert read("attempt=1") == ["first\n"]
    assert read("attempt=2&step=fetch") == ["second\n"]
    assert read("attempt=2&step=convert") == []
    assert read(f"attempt={2**31 - 1}") == []
    for wrong in ("0", "-1", "x", "1.5", str(2**31), "9" * 400):
        assert pointers(caller.get(f"/v1/jobs/{job_id}/logs?attempt={wrong}")) == ["/attempt"]


@pytest.mark.parametrize("limit", [1, 5])
def test_the_operator_limits_how_many_attempts_a_job_may_ask_for(
    settings: Settings, caller: Caller, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setitem(settings.__dict__, "attempts_limit", limit)
    assert caller.submit(max_attempts=limit)["max_attempts"] == limit
    assert caller.submit(max_attempts=None)["max_attempts"] is None
    for too_many in (limit + 1, 101, 2**31, 10**30):
        response = caller.post(
            "/v1/jobs", {"source": "file:///models/tiny", "recipe": "gguf", "max_attempts": too_many}
        )
        assert response.status_code == 422
        assert pointers(response) == ["/max_attempts"]
        assert f"{limit} attempts" in problem_of(response)["detail"]


def test_a_retry_of_a_job_that_asked_for_more_than_is_allowed_today(
    settings: Settings, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = caller.submit(max_attempts=7)["id"]
    caller.post(f"/v1/jobs/{job_id}/cancel")
    assert caller.post(f"/v1/jobs/{job_id}/retry").get_json()["max_attempts"] == 7
    monkeypatch.setitem(settings.__dict__, "attempts_limit", 6)
    assert pointers(caller.post(f"/v1/jobs/{job_id}/retry")) == ["/max_attempts"]
