"""A job says why a step of it that is ready is not run, where it is not merely its turn, and says so for as long."""

import hashlib
from functools import partial
from typing import Any

import pytest
from sqlalchemy import delete, event, text, update

from db import bind, workers
from db.bind import Work
from db.room import Need, Room
from db.session import Database
from db.tables import Worker
from tests.api.conftest import Caller
from tests.api.work import MODEL_FACTS, Workers, register

NONE_THERE = ["Fetch waits for a cpu worker: none is there that takes work."]
SMALL = Room(memory_bytes=10**9, vram_bytes=None, scratch_bytes=10**12)


@pytest.fixture
def job_id(caller: Caller) -> str:
    made: str = caller.submit(wait_for_capacity=True)["id"]
    return made


def waits_for(caller: Caller, job_id: str) -> list[str]:
    told: list[str] = caller.get(f"/v1/jobs/{job_id}").get_json()["waits_for"]
    return told


def bind_ready(database: Database, need: Need) -> None:
    for step in database.run(partial(bind.unbound_steps, after="", limit=100)):
        key = hashlib.sha256(step.id.encode()).hexdigest()
        database.run(partial(bind.bind, step=step, work=Work(key=key, params=step.params, inputs={}, need=need)))


def test_who_waits_its_turn_is_told_nothing(caller: Caller, database: Database, job_id: str) -> None:
    assert waits_for(caller, job_id) == []
    bind_ready(database, Need(1, 0, 1))
    assert waits_for(caller, job_id) == []


def test_a_paused_pool_is_named_until_it_is_resumed(caller: Caller, database: Database, job_id: str) -> None:
    database.run(partial(workers.pause, pool="gpu"))
    assert waits_for(caller, job_id) == []
    database.run(partial(workers.pause, pool="cpu"))
    assert waits_for(caller, job_id) == ["Fetch waits: the cpu pool is paused by its operator."]
    database.run(partial(workers.resume, pool="cpu"))
    Workers(database).do("fetch", MODEL_FACTS)
    assert waits_for(caller, job_id) == ["Reference waits: the gpu pool is paused by its operator."]


def test_a_pool_whose_workers_are_gone_or_drained(caller: Caller, database: Database, job_id: str) -> None:
    with database.transaction() as session:
        session.execute(update(Worker).values(seen_at=text("now() - interval '1 hour'")))
    assert waits_for(caller, job_id) == NONE_THERE
    worker = register(database, "cpu", SMALL)
    assert waits_for(caller, job_id) == []
    database.run(partial(workers.drain, worker_id=worker))
    assert waits_for(caller, job_id) == NONE_THERE


def test_what_is_too_large_for_every_worker_says_what_it_needs(caller: Caller, database: Database, job_id: str) -> None:
    with database.transaction() as session:
        session.execute(delete(Worker))
    register(database, "cpu", SMALL)
    bind_ready(database, Need(2 * 10**9, 10**9, 10**9))
    need = "2.0 GB of memory, 1.0 GB of GPU memory and 1.0 GB of scratch disk"
    assert waits_for(caller, job_id) == [f"Fetch waits for a larger cpu worker: it needs {need}."]
    register(database, "cpu", Room(memory_bytes=3 * 10**9, vram_bytes=None, scratch_bytes=10**9))
    assert waits_for(caller, job_id) == []


def test_what_needs_a_gpu_says_so_where_no_worker_has_one(caller: Caller, database: Database, job_id: str) -> None:
    with database.transaction() as session:
        session.execute(delete(Worker))
    register(database, "cpu")
    bind_ready(database, Need(1, 0, 1, needs_gpu=True))
    said = "Fetch waits for a cpu worker with an NVIDIA GPU: none of those that take work has one."
    assert waits_for(caller, job_id) == [said]
    register(database, "cpu", Room(memory_bytes=10, vram_bytes=10, scratch_bytes=10))
    assert waits_for(caller, job_id) == []


def test_a_job_that_is_over_waits_for_nothing(caller: Caller, database: Database, job_id: str) -> None:
    database.run(partial(workers.pause, pool="cpu"))
    cancelled = caller.post(f"/v1/jobs/{job_id}/cancel").get_json()
    assert (cancelled["status"], cancelled["waits_for"]) == ("cancelled", [])


@pytest.mark.usefixtures("job_id")
def test_a_list_asks_nothing_more_for_it(caller: Caller, database: Database) -> None:
    database.run(partial(workers.pause, pool="cpu"))
    caller.submit(wait_for_capacity=True)
    statements: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    listed = caller.get("/v1/jobs").get_json()["data"]
    assert [job["waits_for"] for job in listed] == [[], []]
    assert statements
    assert not [one for one in statements if "paused_pools" in one or "FROM workers" in one]


def test_what_must_be_alone_says_that_something_runs_there(caller: Caller, database: Database, job_id: str) -> None:
    del job_id  # what runs
    work = Workers(database)
    running = work.start("fetch")
    other = caller.submit(wait_for_capacity=True)["id"]
    work.bind()
    assert waits_for(caller, other) == []
    with database.transaction() as session:
        session.execute(text("UPDATE executions SET is_exclusive = true WHERE status = 'ready'"))
    assert waits_for(caller, other) == ["Fetch waits until nothing else runs on the machine of a cpu worker."]
    work.finish(running, MODEL_FACTS)
    assert waits_for(caller, other) == []
