"""The same application under its production server, over real sockets."""

import http.client
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from db import events
from db.session import Database
from tests.api.conftest import SOURCE, new_key
from tests.api.frames import Frame, frames_in
from tests.api.serving import serving
from tests.api.work import Workers, register_one_a_pool
from tests.waiting import wait_until

STREAMS = 20
WRITES = 30
REQUESTS = 20


@dataclass(frozen=True)
class Served:
    """A running server, and a key for it."""

    process: subprocess.Popen[bytes]
    port: int
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers=self.headers,
            timeout=20,
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    def send(self, body: bytes | Iterator[bytes], path: str = "/v1/jobs", **headers: str) -> tuple[int, Any]:
        """Post with the standard library, which sends a whole body before it reads; return status and document."""
        wanted = {**self.headers, "Content-Type": "application/json", **headers}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request("POST", path, body, wanted, encode_chunked=True)
            response = connection.getresponse()
            return response.status, json.load(response)


@pytest.fixture
def served(database_url: str, database: Database, tmp_path: Path) -> Iterator[Served]:
    register_one_a_pool(database)
    with serving(database_url, tmp_path) as server:
        yield Served(server.process, server.port, new_key(database, "ours"))


def _follow(client: httpx.Client, job_id: str, opened: threading.Semaphore) -> list[Frame]:
    seen: list[Frame] = []
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as response:
        for frame in frames_in(response.iter_bytes()):
            if not seen:
                opened.release()
            seen.append(frame)
    return seen


def test_many_streams_beside_writes(served: Served, database: Database) -> None:
    with served.client() as client, ThreadPoolExecutor(STREAMS) as threads:
        job_id = client.post("/v1/jobs", json={"source": SOURCE, "recipe": "gguf"}).json()["id"]
        opened = threading.Semaphore(0)
        followed = [threads.submit(_follow, client, job_id, opened) for _ in range(STREAMS)]
        for _ in followed:
            assert opened.acquire(timeout=20)
        for number in range(WRITES):
            database.run(partial(events.record, job_id=job_id, message=f"event {number}"))
            assert client.post("/v1/jobs", json={"source": "file:///etc", "recipe": "gguf"}).status_code == 422
        # Twenty streams are open, and hold nothing.
        idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        wait_until(lambda: database.run(lambda session: session.scalar(text(idle))) == 0)
        Workers(database).do_all()
        told = [future.result(timeout=20) for future in followed]
    for frames in told:
        numbers = [int(frame.id) for frame in frames if frame.id]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > WRITES
        assert (frames[-1].event, frames[-1].data["status"]) == ("done", "succeeded")


def test_identical_requests_at_once_make_one_job(served: Served) -> None:
    together = threading.Barrier(REQUESTS)

    def submit(client: httpx.Client) -> httpx.Response:
        headers = {"Idempotency-Key": "release-42"}
        return client.post("/v1/jobs", json={"source": SOURCE, "recipe": "gguf"}, headers=headers)

    def submit_together(_: int) -> httpx.Response:
        with served.client() as client:
            together.wait()
            return submit(client)

    with ThreadPoolExecutor(REQUESTS) as threads:
        at_once = list(threads.map(submit_together, range(REQUESTS)))
    with served.client() as client:
        later = [submit(client) for _ in range(REQUESTS)]
        (job,) = client.get("/v1/jobs?limit=100").json()["data"]
    made = [response for response in at_once if response.status_code == 201]
    in_flight = [response for response in at_once if response.status_code == 409]
    assert len(made) + len(in_flight) == REQUESTS
    assert {response.json()["code"] for response in in_flight} <= {"request_in_flight"}
    assert [response.status_code for response in later] == [201] * REQUESTS
    assert {response.content for response in [*made, *later]} == {made[0].content}
    assert made[0].json()["id"] == job["id"]
    assert sum("Idempotent-Replayed" not in response.headers for response in made) == 1


def test_a_stop_ends_open_streams(served: Served) -> None:
    with served.client() as client:
        job_id = client.post("/v1/jobs", json={"source": SOURCE, "recipe": "gguf"}).json()["id"]
        opened = threading.Semaphore(0)
        with ThreadPoolExecutor(1) as thread:
            followed = thread.submit(_follow, client, job_id, opened)
            assert opened.acquire(timeout=20)
            served.process.send_signal(signal.SIGTERM)
            assert [frame.event for frame in followed.result(timeout=10)] == ["job.event", "progress"]
        assert served.process.wait(timeout=10) == 0


def test_large_bodies_get_their_answer(served: Served, subtests: pytest.Subtests) -> None:
    body = b"x" * 10_000_000
    cases: list[tuple[int, bytes | Iterator[bytes], dict[str, str]]] = [
        (413, body, {}),
        (413, body, {"Connection": "close"}),
        (413, (body[:100_000] for _ in range(100)), {"Transfer-Encoding": "chunked"}),
        (401, body, {"Connection": "close", "Authorization": "Bearer wrong"}),
    ]
    for expected, sent, headers in cases:
        with subtests.test(headers=headers):
            status, problem = served.send(sent, **headers)
            assert (status, problem["status"]) == (expected, expected), problem


def test_a_text_may_come_without_its_length(served: Served) -> None:
    kind = {"Content-Type": "application/jsonl", "Transfer-Encoding": "chunked"}
    line = b'{"text": "' + b"x" * 100_000 + b'"}\n'
    status, text = served.send((line for _ in range(100)), "/v1/datasets", **kind)
    assert (status, text["documents"], text["size_bytes"]) == (201, 100, 100 * len(line))
    status, problem = served.send((line for _ in range(200)), "/v1/datasets", **kind)
    assert (status, problem["code"]) == (413, "content_too_large")
    status, problem = served.send(line * 200, "/v1/datasets", **{"Content-Type": "application/jsonl"})
    assert (status, problem["code"]) == (413, "content_too_large")


@pytest.mark.parametrize(("path", "kind"), [("/v1/jobs", "application/json"), ("/v1/datasets", "text/plain")])
def test_malformed_chunks_are_the_clients_error(served: Served, path: str, kind: str) -> None:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", "Transfer-Encoding: chunked"]
    lines = [*head, f"Authorization: Bearer {served.key}", "", "ZZ", ""]
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_text_that_ends_before_its_end_is_none(served: Served, subtests: pytest.Subtests) -> None:
    head = ["POST /v1/datasets HTTP/1.1", "Host: x", "Content-Type: text/plain", f"Authorization: Bearer {served.key}"]
    chunked = "Transfer-Encoding: chunked"
    cases = [
        ["Content-Length: 1000", "", "half of it"],
        [chunked, "", "ff", "half of it"],
        [chunked, "", "4", "half", ""],
    ]
    for lines in cases:
        with (
            subtests.test(lines=lines),
            socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection,
        ):
            connection.sendall("\r\n".join([*head, *lines]).encode())
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
    with served.client() as client:
        assert client.get("/v1/datasets").json()["data"] == []
