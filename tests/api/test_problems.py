import json
from pathlib import Path

import pytest
from apiflask import APIFlask
from pydantic import SecretStr

from api.app import create_app
from core.settings import Settings
from tests.api.conftest import Caller, problem_of


def test_addresses_that_lead_nowhere(caller: Caller, subtests: pytest.Subtests) -> None:
    for path in (
        "/v1",
        "/v1/jobs/",
        "/v1//jobs",
        "/v1/jobs/a%00b",
        "/v1/jobs/%F0%9F%90%98",
        "/v1/jobs/" + "x" * 99,
    ):
        with subtests.test(path=path):
            response = caller.get(path)
            assert response.status_code == 404
            assert problem_of(response)["code"] == "not_found"


def test_a_wrong_method_is_told_the_right_ones(caller: Caller) -> None:
    response = caller.client.delete("/v1/jobs", headers=caller.headers)
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    problem_of(response)


def test_a_bug_shows_nothing_of_itself(caller: Caller, app: APIFlask) -> None:
    def broken() -> str:
        raise RuntimeError("a secret")

    app.view_functions["methods.list_methods"] = broken
    response = caller.get("/v1/methods")
    assert response.status_code == 500
    problem = problem_of(response)
    assert response.headers["X-Request-Id"] in problem["detail"]
    assert "secret" not in json.dumps(problem)


def test_without_postgres_the_answer_is_to_try_again(tmp_path: Path, subtests: pytest.Subtests) -> None:
    settings = Settings(
        database_url=SecretStr("postgresql://nobody:x@127.0.0.1:1/nothing"), store_url=f"file://{tmp_path}/store"
    )
    client = create_app(settings).test_client()
    for path in ("/v1/jobs", "/v1/jobs/job_1/events", "/readyz"):
        with subtests.test(path=path):
            response = client.get(path, headers={"Authorization": "Bearer fb_x"})
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            assert "127.0.0.1" not in problem_of(response)["detail"]
    assert client.get("/healthz").status_code == 200


def test_each_answer_has_a_request_id(caller: Caller) -> None:
    assert caller.get("/healthz", **{"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    refused = caller.get("/healthz", **{"X-Request-Id": "not one"}).headers["X-Request-Id"]
    assert refused.startswith("req_")


def test_the_access_log_tells_who_and_what_but_no_secret(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    caller.get("/v1/jobs?method=private").close()
    logged = "".join(capsys.readouterr())
    assert "/v1/jobs" in logged
    assert "team_" in logged
    assert "private" not in logged
    assert caller.key not in logged
