"""The same request under the same key acts once, whatever happens between the first and the last time it is sent."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from apiflask import APIFlask
from sqlalchemy import text
from werkzeug.test import TestResponse

from db import keys
from db.idempotency import Answer, act_once
from db.session import Database
from tests.api.conftest import SOURCE, Caller, pointers, problem_of

BODY = {"source": SOURCE, "recipe": "gguf", "metadata": {"b": "2", "a": "ä"}}
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
CRASH = """
    CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_terminate_backend(pg_backend_pid());
        RETURN NEW;
    END $$;
    CREATE TRIGGER crash BEFORE INSERT ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION crash();
"""


def send(caller: Caller, key: str, body: Any = BODY, path: str = "/v1/jobs") -> TestResponse:
    return caller.client.post(path, json=body, headers={**caller.headers, "Idempotency-Key": key})


def job_count(caller: Caller) -> int:
    return len(caller.get("/v1/jobs?limit=100").get_json()["data"])


def test_the_same_request_gets_the_first_answer_word_for_word(caller: Caller) -> None:
    first = send(caller, KEY)
    assert first.status_code == 201
    assert "Idempotent-Replayed" not in first.headers
    caller.post(f"{first.headers['Location']}/cancel")
    again = send(caller, KEY)
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.mimetype == "application/json"
    assert job_count(caller) == 1


def test_the_order_of_members_makes_no_difference(caller: Caller) -> None:
    first = send(caller, KEY)
    again = send(caller, KEY, {"metadata": {"a": "ä", "b": "2"}, "recipe": "gguf", "source": SOURCE})
    assert again.data == first.data


@pytest.mark.parametrize("change", [{"priority": 1}, {"metadata": {}}, {"recipe": "gguf:Q4_K_M"}])
def test_another_request_under_the_key_is_refused(caller: Caller, change: dict[str, Any]) -> None:
    send(caller, KEY)
    response = send(caller, KEY, BODY | change)
    assert response.status_code == 422
    assert problem_of(response)["code"] == "idempotency_key_reused"
    assert pointers(response) == ["/Idempotency-Key"]
    assert job_count(caller) == 1


def test_a_key_is_of_one_operation(caller: Caller) -> None:
    job = send(caller, KEY).get_json()
    caller.post(f"/v1/jobs/{job['id']}/cancel")
    assert send(caller, KEY, path=f"/v1/jobs/{job['id']}/retry").status_code == 422
    retried = send(caller, "another", path=f"/v1/jobs/{job['id']}/retry")
    again = send(caller, "another", path=f"/v1/jobs/{job['id']}/retry")
    assert (retried.status_code, again.data) == (201, retried.data)
    assert retried.get_json()["retry_of"] == job["id"]
    assert job_count(caller) == 2


def test_a_key_is_of_one_team(caller: Caller, stranger: Caller) -> None:
    ours, theirs = send(caller, KEY), send(stranger, KEY, BODY | {"recipe": "gguf:Q8_0"})
    assert (ours.status_code, theirs.status_code) == (201, 201)
    assert ours.get_json()["id"] != theirs.get_json()["id"]


def test_a_request_that_was_refused_uses_up_no_key(caller: Caller) -> None:
    for wrong in ({"recipe": "nothing"}, {"source": "file:///etc"}, {"priority": 1000}):
        assert send(caller, KEY, BODY | wrong).status_code == 422
    job = caller.submit()
    assert send(caller, KEY, path=f"/v1/jobs/{job['id']}/retry").status_code == 409
    assert send(caller, KEY).status_code == 201


@pytest.mark.parametrize("same", [KEY, f'"{KEY}"'])
def test_a_key_may_stand_in_quotes(caller: Caller, same: str) -> None:
    assert send(caller, same).status_code == 201
    for form in (KEY, f'"{KEY}"'):
        assert send(caller, form).headers["Idempotent-Replayed"] == "true"


def test_quoted_keys_may_hold_what_bare_ones_may_not(caller: Caller, subtests: pytest.Subtests) -> None:
    for key in ('"two words"', '"a,b"', r'"a\"b\\c"', f'"{"x" * 255}"', "x" * 255, "!#$%&'()*+-./:;<=>?@[]^_`{|}~"):
        with subtests.test(key=key):
            assert send(caller, key).status_code == 201
            assert send(caller, key).headers["Idempotent-Replayed"] == "true"


def test_what_is_no_key_is_refused(caller: Caller, subtests: pytest.Subtests) -> None:
    for key in ("", '""', '"', '"open', 'clo"sed', '"a" ;b=1', r'"a\n"', "two words", "a, b", "ä", '"ä"', "x" * 256):
        with subtests.test(key=key):
            response = send(caller, key)
            assert response.status_code == 422
            assert pointers(response) == ["/Idempotency-Key"]
    assert job_count(caller) == 0


def test_many_at_once_make_one_job(app: APIFlask, caller: Caller) -> None:
    together = threading.Barrier(20)

    def submit(_: int) -> TestResponse:
        one = Caller(app.test_client(), caller.key)
        together.wait()
        while True:
            response = send(one, KEY)
            if response.status_code != 409:
                return response
            assert problem_of(response)["code"] == "request_in_flight"

    with ThreadPoolExecutor(20) as threads:
        responses = list(threads.map(submit, range(20)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.data for response in responses}) == 1
    assert sum("Idempotent-Replayed" not in response.headers for response in responses) == 1
    assert job_count(caller) == 1


def test_a_request_in_flight_is_a_conflict_until_it_ends(caller: Caller, stranger: Caller, database: Database) -> None:
    team = database.run(lambda session: keys.authenticate(session, caller.key))
    with database.transaction() as session:
        act_once(session, team, KEY, "a" * 64, lambda: Answer(location="/", body="{}"))
        response = send(caller, KEY)
        assert response.status_code == 409
        assert problem_of(response)["code"] == "request_in_flight"
        assert send(caller, "another").status_code == 201
        assert send(stranger, KEY).status_code == 201
        session.rollback()
    assert "Idempotent-Replayed" not in send(caller, KEY).headers


def test_a_crash_leaves_neither_job_nor_key(caller: Caller, database: Database) -> None:
    """Postgres ends the connection when the job has been written, and its key is about to be."""
    with database.transaction() as session:
        session.execute(text(CRASH))
    assert send(caller, KEY).status_code == 503
    with database.transaction() as session:
        session.execute(text("DROP TRIGGER crash ON idempotency_keys"))
    assert job_count(caller) == 0
    assert "Idempotent-Replayed" not in send(caller, KEY).headers
    assert job_count(caller) == 1
