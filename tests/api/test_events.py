from collections.abc import Iterator
from itertools import takewhile
from typing import Any
from unittest.mock import Mock

import pytest
from apiflask import APIFlask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from api import event_stream
from api.services import services_of
from db import events, jobs
from db.session import Database
from tests.api.conftest import Caller, pointers, problem_of
from tests.api.frames import Frame, frames_in
from tests.api.work import Workers

STREAM = {"Accept": "text/event-stream"}
END_LISTENERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE query LIKE 'LISTEN%' AND datname = current_database()
"""


class Stream:
    """An open event stream of the application in this process."""

    def __init__(self, caller: Caller, job_id: str, **headers: str) -> None:
        self._response = caller.get(f"/v1/jobs/{job_id}/events", **STREAM, **headers)
        assert self._response.status_code == 200
        assert self._response.mimetype == "text/event-stream"
        self.frames: Iterator[Frame] = frames_in(self._response.iter_encoded())

    def until(self, message: str) -> list[Frame]:
        """The frames up to the event with this message."""
        return [*takewhile(lambda frame: frame.data.get("message") != message, self.frames)]

    def close(self) -> None:
        self._response.close()


def progress_of(frames: list[Frame], kind: str) -> list[Any]:
    return [
        step["progress"]["done"]
        for frame in frames
        if frame.event == "progress"
        for step in frame.data["steps"]
        if step["kind"] == kind and step["progress"]
    ]


def test_events_are_paged_by_number(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    Workers(database).do_all()
    first = caller.get(f"/v1/jobs/{job_id}/events?limit=3").get_json()
    assert (first["object"], first["has_more"]) == ("list", True)
    assert [event["id"] for event in first["data"]] == [1, 2, 3]
    assert list(first["data"][0]) == ["id", "object", "created_at", "level", "type", "message", "data"]
    rest = caller.get(f"/v1/jobs/{job_id}/events?after=3").get_json()
    assert rest["has_more"] is False
    assert [event["id"] for event in rest["data"]] == list(range(4, 4 + len(rest["data"])))


def test_a_stream_of_a_finished_job_tells_all_and_ends(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    Workers(database).do_all()
    frames = list(Stream(caller, job_id).frames)
    page = caller.get(f"/v1/jobs/{job_id}/events").get_json()["data"]
    assert [(frame.event, frame.data) for frame in frames[:-1]] == [("job.event", event) for event in page]
    assert [frame.id for frame in frames[:-1]] == [str(event["id"]) for event in page]
    assert (frames[-1].event, frames[-1].id) == ("done", None)
    assert frames[-1].data == caller.get(f"/v1/jobs/{job_id}").get_json()


def test_a_stream_follows_a_job_to_its_end(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    work = Workers(database)
    stream = Stream(caller, job_id)
    assert [next(stream.frames).event for _ in range(2)] == ["job.event", "progress"]
    work.do("fetch")
    stream.until("Fetch has succeeded.")
    work.do("convert")
    taken = work.start("quantize")
    stream.until("Quantize has started (attempt 1).")
    seen = []
    for done in (1, 2, 9):
        work.progress(taken, done)
        seen += next(progress_of([frame], "quantize") for frame in stream.frames if progress_of([frame], "quantize"))
    assert seen == [1, 2, 9]
    work.finish(taken)
    for kind in ("reference", "verify", "evaluate", "document"):
        work.do(kind)
    rest = list(stream.frames)
    assert rest[-1].event == "done"
    assert rest[-1].data["status"] == "succeeded"


def test_a_stream_is_resumed_by_number(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    Workers(database).do_all()
    numbers = [frame.id for frame in Stream(caller, job_id, **{"Last-Event-ID": "5"}).frames]
    assert numbers[0] == "6"
    last = numbers[-2]
    assert last is not None
    assert [frame.event for frame in Stream(caller, job_id, **{"Last-Event-ID": last}).frames] == ["done"]


def test_more_events_than_one_look_takes(caller: Caller, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "EVENTS_AT_ONCE", 2)
    job_id = caller.submit()["id"]
    Workers(database).do_all()
    frames = list(Stream(caller, job_id).frames)
    numbers = [int(frame.id) for frame in frames if frame.id]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 6
    assert frames[-1].event == "done"


def test_a_number_that_is_none_is_refused(caller: Caller, subtests: pytest.Subtests) -> None:
    job_id = caller.submit()["id"]
    for given in ("x", "-1", "1.5", "9" * 30, "٣"):
        with subtests.test(given=given):
            response = caller.get(f"/v1/jobs/{job_id}/events", **STREAM, **{"Last-Event-ID": given})
            assert response.status_code == 422
            assert problem_of(response)["code"] == "invalid_request"


def test_numbers_in_queries_stay_in_their_range(caller: Caller) -> None:
    job_id = caller.submit()["id"]
    for path in (f"events?after={2**31}", "events?after=-1", f"logs?after={2**63}", "logs?after=x"):
        assert pointers(caller.get(f"/v1/jobs/{job_id}/{path}")) == ["/after"]
    assert caller.get(f"/v1/jobs/{job_id}/events?after={2**31 - 1}").get_json()["data"] == []
    assert caller.get(f"/v1/jobs/{job_id}/logs?after={2**63 - 1}").get_json()["data"] == []


def test_a_quiet_stream_says_that_it_lives(
    caller: Caller, app: APIFlask, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_SECONDS", 0.05)
    job_id = caller.submit()["id"]
    response = caller.get(f"/v1/jobs/{job_id}/events", **STREAM)
    pieces = response.iter_encoded()
    next(pieces)
    assert next(pieces) == b": keep-alive\n\n"
    # Meanwhile it holds a place in the feed, and no connection.
    assert services_of(app).feed.subscriber_count() == 1
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    response.close()
    assert services_of(app).feed.subscriber_count() == 0


def test_a_broken_listening_connection_loses_nothing(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    stream = Stream(caller, job_id)
    assert next(stream.frames).id == "1"
    next(stream.frames)
    database.run(lambda session: events.record(session, job_id, "heard"))
    assert next(stream.frames).data["message"] == "heard"
    assert database.run(lambda session: session.scalar(text(END_LISTENERS)))
    database.run(lambda session: events.record(session, job_id, "unheard"))
    assert next(stream.frames).data["message"] == "unheard"
    stream.close()


def test_a_stream_ends_where_postgres_is_away(
    caller: Caller, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = caller.submit()["id"]
    stream = Stream(caller, job_id)
    assert [next(stream.frames).event for _ in range(2)] == ["job.event", "progress"]

    monkeypatch.setattr(jobs, "get", Mock(side_effect=OperationalError("", {}, Exception())))
    database.run(lambda session: events.record(session, job_id, "news"))
    assert list(stream.frames) == []


def test_the_end_of_the_process_ends_its_streams(caller: Caller, app: APIFlask) -> None:
    stopping: list[bool] = []
    services_of(app).feed.end_when(lambda: bool(stopping))
    stream = Stream(caller, caller.submit()["id"])
    assert [next(stream.frames).event for _ in range(2)] == ["job.event", "progress"]
    stopping.append(True)
    assert list(stream.frames) == []


def test_logs_are_paged_by_id(caller: Caller, database: Database) -> None:
    job_id = caller.submit()["id"]
    work = Workers(database)
    for kind in ("fetch", "convert"):
        taken = work.start(kind)
        for number in range(3):
            work.log(taken, f"{kind} {number}\n")
        work.finish(taken)
    page = caller.get(f"/v1/jobs/{job_id}/logs?limit=4").get_json()
    assert (page["has_more"], [chunk["text"] for chunk in page["data"]][-1]) == (True, "convert 0\n")
    assert list(page["data"][0]) == ["id", "object", "step", "attempt", "created_at", "text"]
    rest = caller.get(f"/v1/jobs/{job_id}/logs?after={page['data'][-1]['id']}").get_json()
    assert [chunk["text"] for chunk in rest["data"]] == ["convert 1\n", "convert 2\n"]
    only = caller.get(f"/v1/jobs/{job_id}/logs?step=fetch").get_json()["data"]
    assert [(chunk["step"], chunk["attempt"]) for chunk in only] == [("fetch", 1)] * 3


def test_a_stream_ends_with_its_key(caller: Caller, database: Database) -> None:
    stream = Stream(caller, caller.submit()["id"])
    stream.until("The job is queued.")
    with database.transaction() as session:
        session.execute(text("UPDATE api_keys SET revoked_at = now()"))
    Workers(database).start("fetch")  # a notification, at which the stream looks again
    assert not [frame for frame in stream.frames if frame.data.get("message") == "The job has started."]
