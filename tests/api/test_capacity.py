"""What no worker could ever run is refused when it is submitted, unless the job says that it waits for one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, text
from werkzeug.test import TestResponse

from api.requests import EvaluationRequest
from core.settings import Settings
from db.room import Need, Room
from db.session import Database
from db.tables import Worker
from engines import methods, source
from engines.recipe import parse_recipe
from pipeline.foresight import ForeseenStep, foresee
from pipeline.plan import plan
from tests.api.conftest import Caller, pointers, problem_of
from tests.api.work import ROOM, register
from tests.conftest import TINY_LLAMA
from tests.synthetic import MODULE

UNSEEN = "file:///models/tiny"
NO_ROOM = Room(memory_bytes=0, vram_bytes=None, scratch_bytes=0)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"source_roots": (Path("/models"), TINY_LLAMA.parent)})


@pytest.fixture
def have(database: Database) -> Callable[..., None]:
    """Has these workers be there, and no others."""

    def change(**rooms: Room) -> None:
        with database.transaction() as session:
            session.execute(delete(Worker))
        for pool, room in rooms.items():
            register(database, pool, room)

    return change


def submit(caller: Caller, **fields: Any) -> TestResponse:
    return caller.post("/v1/jobs", {"source": TINY_LLAMA.as_uri(), "recipe": "gguf:Q4_K_M", **fields})


def refused(response: TestResponse) -> str:
    assert response.status_code == 422, response.text
    problem = problem_of(response)
    assert problem["code"] == "no_capacity"
    assert pointers(response) == ["/recipe"]
    assert "or set wait_for_capacity" in problem["detail"]
    detail: str = problem["detail"]
    return detail


def foreseen(recipe: str) -> list[ForeseenStep]:
    steps = plan(parse_recipe(recipe), EvaluationRequest().model_dump())
    return foresee(steps, source.inspect(TINY_LLAMA))


def room_for(pool: str, recipe: str = "gguf:Q4_K_M", *, has_gpu: bool = False) -> Room:
    """Just so much room that each step of the pool fits in by itself."""
    needs = [step.need for step in foreseen(recipe) if step.pool == pool]
    return Room(
        memory_bytes=max(need.memory_bytes + (0 if has_gpu else need.vram_bytes) for need in needs),
        vram_bytes=max(need.vram_bytes for need in needs) if has_gpu else None,
        scratch_bytes=max(need.scratch_bytes for need in needs),
    )


def test_room_for_each_step_by_itself_is_enough(caller: Caller, have: Callable[..., None]) -> None:
    for has_gpu in (False, True):
        have(cpu=room_for("cpu"), gpu=room_for("gpu", has_gpu=has_gpu))
        assert submit(caller).status_code == 201
    have(cpu=room_for("cpu", "gptq"), gpu=room_for("gpu", "gptq", has_gpu=True))
    assert submit(caller, recipe="gptq").status_code == 201


@pytest.mark.parametrize(
    ("pool", "has_gpu", "short_of"),
    [
        ("cpu", False, "memory_bytes"),
        ("cpu", False, "scratch_bytes"),
        ("gpu", False, "memory_bytes"),
        ("gpu", False, "scratch_bytes"),
        ("gpu", True, "memory_bytes"),
        ("gpu", True, "vram_bytes"),
    ],
)
def test_a_byte_less_is_not_and_the_step_is_named(
    caller: Caller, have: Callable[..., None], pool: str, has_gpu: bool, short_of: str
) -> None:
    rooms = {"cpu": room_for("cpu"), "gpu": room_for("gpu", has_gpu=has_gpu)}
    rooms[pool] = replace(rooms[pool], **{short_of: getattr(rooms[pool], short_of) - 1})
    have(**rooms)
    detail = refused(submit(caller))
    step = next(one for one in foreseen("gguf:Q4_K_M") if one.pool == pool and not rooms[pool].fits(one.need))
    assert detail.startswith(f"{step.kind.capitalize()} needs {step.need}, which no {pool} worker")
    assert caller.get("/v1/jobs").get_json()["data"] == []


def test_one_worker_must_have_all_of_it(caller: Caller, have: Callable[..., None], database: Database) -> None:
    """Much memory here and much disk there run nothing."""
    enough = room_for("cpu")
    have(gpu=room_for("gpu"), cpu=replace(enough, scratch_bytes=0))
    register(database, "cpu", replace(enough, memory_bytes=0))
    refused(submit(caller))
    register(database, "cpu", enough)
    assert submit(caller).status_code == 201


def test_steps_may_fit_different_workers(caller: Caller, have: Callable[..., None], database: Database) -> None:
    """No worker has room for the largest need of each kind, and yet each step has a worker."""
    cpu = [step.need for step in foreseen("gguf:Q4_K_M") if step.pool == "cpu"]
    have(gpu=room_for("gpu"))
    for need in cpu:
        register(database, "cpu", Room(need.memory_bytes, None, need.scratch_bytes))
    together = Need(max(need.memory_bytes for need in cpu), 0, max(need.scratch_bytes for need in cpu))
    assert together not in cpu
    assert submit(caller).status_code == 201


def test_a_job_that_waits_is_accepted_and_says_so(caller: Caller, have: Callable[..., None]) -> None:
    have(cpu=room_for("cpu"))
    assert "Reference needs" in refused(submit(caller))
    assert "Reference needs" in refused(submit(caller, wait_for_capacity=False))
    job = submit(caller, wait_for_capacity=True)
    assert job.status_code == 201
    assert job.get_json()["wait_for_capacity"] is True
    events = caller.get(f"/v1/jobs/{job.get_json()['id']}/events").get_json()["data"]
    assert [(event["level"], event["type"]) for event in events] == [("info", "state"), ("warn", "message")]
    assert events[1]["message"].startswith("Reference needs")
    assert events[1]["message"].endswith("which no gpu worker of the last week has. The job waits for one.")


def test_a_job_that_would_wait_and_need_not_says_nothing(caller: Caller) -> None:
    job = submit(caller, wait_for_capacity=True).get_json()
    assert len(caller.get(f"/v1/jobs/{job['id']}/events").get_json()["data"]) == 1


def test_of_a_source_that_is_not_seen_only_the_pools_are_asked_after(caller: Caller, have: Callable[..., None]) -> None:
    have(cpu=NO_ROOM, gpu=NO_ROOM)
    assert submit(caller, source=UNSEEN).status_code == 201
    have(cpu=NO_ROOM)
    assert "Reference needs a gpu worker, and none has been there for a week." in refused(submit(caller, source=UNSEEN))
    have()
    assert "Fetch needs a cpu worker" in refused(submit(caller, source=UNSEEN))
    assert submit(caller, source=UNSEEN, wait_for_capacity=True).status_code == 201


@pytest.mark.parametrize(("silent_for", "status"), [("6 days", 201), ("8 days", 422)])
def test_a_worker_counts_for_a_week(caller: Caller, database: Database, silent_for: str, status: int) -> None:
    with database.transaction() as session:
        silence = text("UPDATE workers SET seen_at = now() - CAST(:age AS interval)")
        session.execute(silence, {"age": silent_for})
    assert submit(caller).status_code == status


def test_what_needs_a_gpu_is_refused_where_no_worker_has_one(caller: Caller, have: Callable[..., None]) -> None:
    """However much memory a worker has whose children compute on the CPU."""
    methods.load([MODULE])
    have(cpu=ROOM, gpu=ROOM)
    said = "Quantize needs an NVIDIA GPU, and no gpu worker of the last week has one."
    assert refused(submit(caller, recipe="synthetic-gpu")).startswith(said)
    job = submit(caller, recipe="synthetic-gpu", wait_for_capacity=True)
    events = caller.get(f"/v1/jobs/{job.get_json()['id']}/events").get_json()["data"]
    assert events[1]["message"] == f"{said} The job waits for one."
    have(cpu=ROOM, gpu=replace(ROOM, vram_bytes=2**40))
    assert submit(caller, recipe="synthetic-gpu").status_code == 201


def test_a_retry_is_asked_the_same(caller: Caller, have: Callable[..., None]) -> None:
    ids = [submit(caller, wait_for_capacity=waits).get_json()["id"] for waits in (False, True)]
    for job_id in ids:
        caller.post(f"/v1/jobs/{job_id}/cancel")
    have()
    refused(caller.post(f"/v1/jobs/{ids[0]}/retry"))
    retried = caller.post(f"/v1/jobs/{ids[1]}/retry").get_json()
    events = caller.get(f"/v1/jobs/{retried['id']}/events").get_json()["data"]
    assert [event["level"] for event in events] == ["info", "warn"]
