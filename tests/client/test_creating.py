"""A job is asked for until an answer comes, and always under the same key."""

import re
import socket

import pytest

from fewbits_client import Client, InvalidArgument, Problem, Unreachable
from tests.client.fake_api import KEY, Exchange, FakeApi, a_job

SUBMIT = ("file:///m", "gguf")


def drop(exchange: Exchange) -> None:
    exchange.drop()


def not_ready(exchange: Exchange) -> None:
    exchange.send(503, b"starting", "text/plain")


def in_flight(exchange: Exchange) -> None:
    exchange.problem(409, code="request_in_flight", detail="It is being answered.")


def keys_sent(api: FakeApi) -> list[str]:
    return [seen.headers["idempotency-key"] for seen in api.seen]


def test_a_submission_without_an_answer_is_sent_again_under_its_key(api: FakeApi, client: Client) -> None:
    api.on("POST", "/v1/jobs", drop, not_ready, in_flight)
    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    assert client.submit(*SUBMIT)["id"] == "job_1"
    assert len(api.seen) == 4
    assert len(set(keys_sent(api))) == 1
    assert len({str(seen.body) for seen in api.seen}) == 1


def test_a_retry_is_sent_again_as_well(api: FakeApi, client: Client) -> None:
    api.on("POST", "/v1/jobs/job_1/retry", drop)
    api.answers("POST", "/v1/jobs/job_1/retry", a_job("job_2", "queued"), 201)
    assert client.retry("job_1", idempotency_key="mine")["id"] == "job_2"
    assert keys_sent(api) == ['"mine"', '"mine"']


def test_each_submission_has_a_key_of_its_own(api: FakeApi, client: Client) -> None:
    api.answers("POST", "/v1/jobs", a_job(), 201)
    for _ in range(2):
        client.submit(*SUBMIT)
    first, second = keys_sent(api)
    assert first != second
    assert re.fullmatch(r'"[0-9a-f-]{36}"', first)


def test_a_refusal_is_not_sent_again(api: FakeApi, client: Client) -> None:
    api.refuses("POST", "/v1/jobs/job_1/retry", 409, code="conflict", detail="The job is running.")
    with pytest.raises(Problem, match="is running"):
        client.retry("job_1")
    assert len(api.seen) == 1


def test_patience_ends(api: FakeApi) -> None:
    api.on("POST", "/v1/jobs", drop)
    api.on("POST", "/v1/jobs/job_1/retry", in_flight)
    with Client(api.url, KEY, retry_seconds=0, patience_seconds=0) as impatient:
        with pytest.raises(Unreachable, match=r"^what was asked for may have been done, but cannot reach"):
            impatient.submit(*SUBMIT)
        with pytest.raises(Problem, match="being answered"):
            impatient.retry("job_1")


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", KEY, retry_seconds=0) as client, pytest.raises(Unreachable) as raised:
        client.submit(*SUBMIT)
    assert str(raised.value).startswith("cannot reach")


def test_keys_are_quoted_and_checked(api: FakeApi, client: Client) -> None:
    api.answers("POST", "/v1/jobs", a_job(), 201)
    client.submit(*SUBMIT, idempotency_key='a "b" \\c')
    assert keys_sent(api) == ['"a \\"b\\" \\\\c"']
    for wrong in ("", "ä", "a\nb", "x" * 256):
        with pytest.raises(InvalidArgument):
            client.submit(*SUBMIT, idempotency_key=wrong)
