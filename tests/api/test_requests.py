"""Bodies that are no request: each is refused with a problem that says where it is wrong."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.api.conftest import SOURCE, Caller, pointers, problem_of

GOOD = {"source": SOURCE, "recipe": "gguf"}


WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"source": 5}, "/source"),
    ({"source": ""}, "/source"),
    ({"source": "file:///models/" + "x" * 4096}, "/source"),
    ({"source": "hf://org/model"}, "/source"),
    ({"source": "file:///etc"}, "/source"),
    ({"source": "file:///models/../etc"}, "/source"),
    ({"source": "file:///models/a%00b"}, "/source"),
    ({"source": "file://[/models"}, "/source"),
    ({"source": "file:///models/a\0b"}, "/source"),
    ({"source": "file:///models/\ud800"}, "/source"),
    ({"recipe": None}, "/recipe"),
    ({"recipe": 5}, "/recipe"),
    ({"recipe": []}, "/recipe"),
    ({"recipe": ""}, "/recipe/method"),
    ({"recipe": "nothing:4bit"}, "/recipe/method"),
    ({"recipe": {}}, "/recipe/method"),
    ({"recipe": {"method": []}}, "/recipe/method"),
    ({"recipe": "gguf:Q99"}, "/recipe/type"),
    ({"recipe": {"method": "gguf", "type": 4}}, "/recipe/type"),
    ({"recipe": {"method": "gguf", "bits": 4}}, "/recipe/bits"),
    ({"recipe": {"method": "gguf", "type": "a\0"}}, "/recipe/type"),
    ({"recipe": {"method": "gptq", "bits": True}}, "/recipe/bits"),
    ({"recipe": {"method": "gptq", "damp_percent": "0.1"}}, "/recipe/damp_percent"),
    ({"recipe": {"method": "gptq", "calibration_samples": "8"}}, "/recipe/calibration_samples"),
    ({"recipe": {"method": "gptq", "calibration_samples": True}}, "/recipe/calibration_samples"),
    ({"recipe": {"method": "gptq", "calibration_samples": 1e300}}, "/recipe/calibration_samples"),
    ({"recipe": {"method": "gptq", "seed": 0.5}}, "/recipe/seed"),
    ({"recipe": {"method": "gptq", "sym": 1}}, "/recipe/sym"),
    ({"evaluation": None}, "/evaluation"),
    ({"evaluation": {"domains": []}}, "/evaluation/domains"),
    ({"evaluation": {"domains": ["prose", "prose"]}}, "/evaluation/domains"),
    ({"evaluation": {"domains": ["prose", "maths"]}}, "/evaluation/domains/1"),
    ({"evaluation": {"windows": 0}}, "/evaluation/windows"),
    ({"evaluation": {"windows": 10_001}}, "/evaluation/windows"),
    ({"evaluation": {"windows": 4.5}}, "/evaluation/windows"),
    ({"evaluation": {"a/b~c": 1}}, "/evaluation/a~1b~0c"),
    ({"metadata": {str(number): "" for number in range(17)}}, "/metadata"),
    ({"metadata": {"k" * 65: ""}}, "/metadata/" + "k" * 65),
    ({"metadata": {"": "empty"}}, "/metadata/"),
    ({"metadata": {"k": "v" * 513}}, "/metadata/k"),
    ({"metadata": {"k": 1}}, "/metadata/k"),
    ({"metadata": {"k": "\0"}}, "/metadata/k"),
    ({"metadata": []}, "/metadata"),
    ({"labels": None}, "/labels"),
    ({"labels": "nightly"}, "/labels"),
    ({"labels": [1]}, "/labels/0"),
    ({"labels": [""]}, "/labels/0"),
    ({"labels": ["x" * 65]}, "/labels/0"),
    ({"labels": ["a", "two words"]}, "/labels/1"),
    ({"labels": ["a\n"]}, "/labels/0"),
    ({"labels": ["-a"]}, "/labels/0"),
    ({"labels": ["ä"]}, "/labels/0"),
    ({"labels": ["a", "a"]}, "/labels"),
    ({"labels": [str(number) for number in range(17)]}, "/labels"),
    ({"priority": 101}, "/priority"),
    ({"priority": 10**40}, "/priority"),
    ({"priority": "5"}, "/priority"),
    ({"priority": True}, "/priority"),
    ({"max_runtime_seconds": 0}, "/max_runtime_seconds"),
    ({"max_runtime_seconds": 1e300}, "/max_runtime_seconds"),
    ({"max_runtime_seconds": 1.5}, "/max_runtime_seconds"),
    ({"max_runtime_seconds": True}, "/max_runtime_seconds"),
    ({"max_runtime_seconds": "1"}, "/max_runtime_seconds"),
    ({"max_pending_seconds": -1e300}, "/max_pending_seconds"),
    ({"max_pending_seconds": 10**12}, "/max_pending_seconds"),
    ({"max_attempts": 0}, "/max_attempts"),
    ({"max_attempts": 2.5}, "/max_attempts"),
    ({"max_attempts": "3"}, "/max_attempts"),
    ({"max_attempts": True}, "/max_attempts"),
    ({"max_attempts": 11}, "/max_attempts"),
    ({"max_attempts": 10**40}, "/max_attempts"),
    ({"wait_for_capacity": "yes"}, "/wait_for_capacity"),
    ({"wait_for_capacity": 1}, "/wait_for_capacity"),
    ({"wait_for_capacity": None}, "/wait_for_capacity"),
    ({"publish_to": 5}, "/publish_to"),
    ({"publish_to": ""}, "/publish_to"),
    ({"publish_to": "/published/model"}, "/publish_to"),
    ({"publish_to": "s3://bucket/model"}, "/publish_to"),
    ({"publish_to": "file:///published"}, "/publish_to"),
    ({"publish_to": "file:///etc/model"}, "/publish_to"),
    ({"publish_to": "file:///published/../etc"}, "/publish_to"),
    ({"colour": "red"}, "/colour"),
]


def test_a_field_that_is_wrong_is_named(caller: Caller, subtests: pytest.Subtests) -> None:
    for fields, pointer in WRONG_FIELDS:
        with subtests.test(fields=fields):
            response = caller.post("/v1/jobs", {**GOOD, **fields})
            assert response.status_code == 422, response.text
            assert pointers(response) == [pointer]
    assert caller.get("/v1/jobs").get_json()["data"] == []


def send(caller: Caller, body: bytes, media_type: str | None = "application/json") -> TestResponse:
    return caller.client.post("/v1/jobs", data=body, content_type=media_type, headers=caller.headers)


def test_a_body_must_be_an_object_with_its_fields(caller: Caller, subtests: pytest.Subtests) -> None:
    for body, pointer in [(b"[]", ""), (b'"text"', ""), (b"5", ""), (b"{}", "/source"), (b"null", "/source")]:
        with subtests.test(body=body):
            response = send(caller, body)
            assert response.status_code == 422
            assert pointers(response)[0] == pointer


NO_JSON = [
    b"",
    b"{",
    b"{'source': 1}",
    b"\xff\xfe\xff",
    b'{"priority": NaN}',
    b'{"max_runtime_seconds": Infinity}',
    b'{"max_pending_seconds": -Infinity}',
    b'{"priority": 1e999}',
    b'{"priority": ' + b"9" * 5000 + b"}",
    b'{"source": "a", "source": "b"}',
    b"[" * 100_000,
    b'{"a":' * 50 + b"1" + b"}" * 50,
]


def test_what_is_no_json_is_refused(caller: Caller, subtests: pytest.Subtests) -> None:
    for body in NO_JSON:
        with subtests.test(body=body[:40]):
            response = send(caller, body)
            assert response.status_code == 400
            problem = problem_of(response)
            assert problem["code"] == "bad_request"
            assert "sys." not in problem["detail"]


def test_only_json_is_taken(caller: Caller, subtests: pytest.Subtests) -> None:
    for media_type in (None, "text/plain", "application/x-www-form-urlencoded"):
        with subtests.test(media_type=media_type):
            response = send(caller, b"{}", media_type)
            assert response.status_code == 415
            problem_of(response)


def test_a_large_body_is_refused(caller: Caller) -> None:
    response = send(caller, b"x" * (2**20 + 1))
    assert response.status_code == 413
    problem_of(response)


def test_several_errors_are_all_told(caller: Caller) -> None:
    response = caller.post("/v1/jobs", {"recipe": 5, "priority": "x", "colour": 1})
    assert set(pointers(response)) == {"/source", "/recipe", "/priority", "/colour"}


def test_the_query_of_a_post_is_checked_too(caller: Caller) -> None:
    response = caller.post("/v1/jobs?dry_run=1", GOOD)
    assert response.status_code == 422
    assert pointers(response) == ["/dry_run"]
