"""Who may ask for what: every route, so that a new one cannot be forgotten."""

import re

import pytest
from apiflask import APIFlask
from werkzeug.routing import Rule

from api.auth import OPEN_ENDPOINTS
from db import keys
from db.session import Database
from tests.api.conftest import Caller, new_key, problem_of
from tests.api.work import Workers

VALUES = {
    "artifact_id": "art_1",
    "dataset_id": "dataset_1",
    "sweep_id": "sweep_1",
    "name": "model.gguf",
    "filename": "portal.css",
}


def requests_of(app: APIFlask, job_id: str) -> list[tuple[str, str, str]]:
    """One request for each method of each route: endpoint, method, path."""
    rules: list[Rule] = list(app.url_map.iter_rules())
    values = {**VALUES, "job_id": job_id}
    return [
        (rule.endpoint, method, re.sub(r"<(?:\w+:)?(\w+)>", lambda found: values[found[1]], rule.rule))
        for rule in rules
        for method in sorted(rule.methods or ())
    ]


def test_every_route_but_the_open_ones_needs_a_key_or_a_session(
    app: APIFlask, caller: Caller, subtests: pytest.Subtests
) -> None:
    client = app.test_client()
    asked = requests_of(app, caller.submit()["id"])
    assert {endpoint for endpoint, _, _ in asked} > OPEN_ENDPOINTS
    for endpoint, method, path in asked:
        with subtests.test(method=method, path=path):
            response = client.open(path, method=method, buffered=True)
            if endpoint in OPEN_ENDPOINTS:
                assert response.status_code != 401
            elif endpoint.startswith("portal."):
                assert response.status_code == 303
                assert response.headers["Location"].startswith("/sign-in?")
            else:
                assert response.status_code == 401
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                assert method == "HEAD" or problem_of(response)["code"] == "not_authenticated"


def test_another_teams_job_looks_like_none(
    app: APIFlask, caller: Caller, stranger: Caller, database: Database, subtests: pytest.Subtests
) -> None:
    job_id = caller.submit()["id"]
    Workers(database).do_all()
    for endpoint, method, path in requests_of(app, job_id):
        if not path.startswith(f"/v1/jobs/{job_id}") or method == "OPTIONS":
            continue  # tests/portal/test_security.py looks at the portal's
        with subtests.test(method=method, path=path):
            response = stranger.client.open(path, method=method, headers=stranger.headers)
            none = stranger.client.open(path.replace(job_id, "job_0"), method=method, headers=stranger.headers)
            assert (response.status_code, none.status_code) == (404, 404), endpoint
            assert response.text.replace(job_id, "job_0") == none.text
    assert stranger.get("/v1/jobs").get_json()["data"] == []
    assert stranger.get(f"/v1/jobs?after={job_id}").status_code == 422


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_is_not_case_sensitive(caller: Caller, scheme: str) -> None:
    response = caller.client.get("/v1/jobs", headers={"Authorization": f"{scheme} {caller.key}"})
    assert response.status_code == 200


def test_what_is_no_known_key_is_refused(caller: Caller, subtests: pytest.Subtests) -> None:
    for given in ("", "Bearer", "Bearer ", "Bearer fb_wrong", f"Basic {caller.key}", caller.key, "Bearer \xff\x00"):
        with subtests.test(given=given):
            response = caller.client.get("/v1/jobs", headers={"Authorization": given})
            assert response.status_code == 401
            problem_of(response)


def test_a_revoked_key_ends_at_once(caller: Caller, database: Database) -> None:
    key = new_key(database, "ours")
    key_id = database.run(keys.list_keys)[-1].id
    other = Caller(caller.client, key)
    assert other.get("/v1/jobs").status_code == 200
    database.run(lambda session: keys.revoke_key(session, key_id))
    assert other.get("/v1/jobs").status_code == 401
