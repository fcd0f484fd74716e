"""What is remembered of each attempt, how often work is tried, after what wait, and with how much room."""

import random
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from core.errors import ChildCrashed, DoesNotFit, FewbitsError, SourceInvalid, WorkerLost
from core.ids import JobId
from core.settings import Settings
from db import expiry, history, lease
from db.claim import Claim
from db.ending import BACKOFF_DOUBLINGS_MAX, JITTER, Retry
from db.jobs import PlannedStep
from db.lease import Result
from db.room import Need, Peaks, Room
from tests.conftest import REPOSITORY
from tests.db.conftest import RETRY, ROOM, Bench

FETCH = (PlannedStep("fetch", "cpu", (), {}),)
REFERENCE = (PlannedStep("reference", "gpu", (), {}),)
PATIENT = Retry(attempts_max=20, backoff_seconds=0)
GB = 10**9
ON_GPU = Room(100 * GB, 100 * GB, 100 * GB)
MISFIT_SECONDS = 1e-6
DISPATCH_SECONDS = 2.0  # how long it may take until a worker gets a hint


def attempts(bench: Bench, claimed: Claim) -> list[tuple[int, str | None, str | None]]:
    """Return the number of each attempt, how it ended, and the code of its error."""
    query = "SELECT number, outcome, error ->> 'code' FROM attempts WHERE execution_id = :id ORDER BY number"
    return [(row[0], row[1], row[2]) for row in bench.rows(query, id=claimed.lease.execution_id)]


def amounts(bench: Bench, kind: str) -> list[list[int | None]]:
    """Return the forecasts or the peaks of each attempt, oldest first."""
    names = ", ".join(f"{kind}_{of_what}_bytes" for of_what in ("memory", "vram", "scratch"))
    return [list(row) for row in bench.rows(f"SELECT {names} FROM attempts ORDER BY started_at")]  # noqa: S608


def need_of(bench: Bench, claimed: Claim) -> Need:
    query = "SELECT memory_bytes, vram_bytes, scratch_bytes, needs_gpu FROM executions WHERE id = :id"
    return Need(*bench.rows(query, id=claimed.lease.execution_id)[0])


def start(bench: Bench, need: Need | None = None, steps: tuple[PlannedStep, ...] = FETCH) -> JobId:
    job = bench.submit(steps=steps)
    bench.bind_all(need=need or Need(1, 0, 1))
    return job


def error_of(bench: Bench, job: JobId) -> Mapping[str, Any]:
    error = bench.job(job).error
    assert error is not None
    return error


def only_worker(bench: Bench, pool: str, *capacities: Room) -> None:
    """Let a pool have workers of these sizes and no others."""
    bench.execute("UPDATE workers SET stopped_at = now() WHERE pool = :pool", pool=pool)
    for capacity in capacities:
        bench.new_worker(pool, capacity=capacity)


def test_each_attempt_stays_readable_with_its_outcome_and_error(bench: Bench) -> None:
    start(bench)
    bench.fail(bench.must_claim(), ChildCrashed("It ended."), PATIENT)
    bench.release(bench.must_claim())
    bench.lose(bench.must_claim(), PATIENT)
    last = bench.must_claim()
    before = [(1, "failed", "child_crashed"), (2, "released", None), (3, "lost", "worker_lost")]
    assert attempts(bench, last) == [*before, (4, None, None)]
    bench.finish(last)
    assert attempts(bench, last) == [*before, (4, "succeeded", None)]
    assert bench.value("SELECT count(*) FROM attempts WHERE ended_at < started_at") == 0


def test_an_attempt_that_was_stopped_says_so(bench: Bench) -> None:
    job = start(bench)
    claimed = bench.must_claim()
    bench.cancel(job)
    bench.stopped(claimed)
    assert attempts(bench, claimed) == [(1, "cancelled", None)]


def test_each_attempt_keeps_the_forecast_that_held_for_it_and_what_it_took(bench: Bench) -> None:
    only_worker(bench, "gpu", ON_GPU)
    start(bench, Need(10 * GB, 4 * GB, 3 * GB), REFERENCE)
    first = Peaks(11 * GB, 5 * GB, GB)
    bench.fail(bench.must_claim("gpu", room=ON_GPU), DoesNotFit("It was killed for memory."), PATIENT, first)
    released = Peaks(7, None, 8)
    bench.database.run(partial(lease.release, lease=bench.must_claim("gpu", room=ON_GPU).lease, peaks=released))
    bench.lose(bench.must_claim("gpu", room=ON_GPU), PATIENT)
    last = bench.must_claim("gpu")
    bench.database.run(partial(lease.finish, lease=last.lease, result=Result({}, peaks=first)))
    grown = [20 * GB, 8 * GB, 6 * GB]
    on_cpu = [28 * GB, 0, 6 * GB]
    assert amounts(bench, "forecast") == [[10 * GB, 4 * GB, 3 * GB], grown, grown, on_cpu]
    assert amounts(bench, "peak") == [[11 * GB, 5 * GB, GB], [7, None, 8], [None] * 3, [11 * GB, 5 * GB, GB]]


def test_the_documented_query_says_how_far_forecasts_are_off(bench: Bench) -> None:
    documented = (REPOSITORY / "docs" / "configuration.md").read_text()
    (query,) = re.findall(r"```sql\n(.*?)```", documented, re.DOTALL)
    taken = [Peaks(5 * GB, None, GB), Peaks(9 * GB, 4 * GB, 2 * GB), Peaks(6 * GB, None, 2 * GB)]
    for name, peaks in zip("abc", taken, strict=True):
        bench.submit(steps=REFERENCE, source=f"file:///{name}")
        bench.bind_all(need=Need(10 * GB, 4 * GB, 2 * GB))
        claimed = bench.must_claim("gpu", room=ON_GPU, device="cuda:0")
        bench.database.run(partial(lease.finish, lease=claimed.lease, result=Result({}, peaks=peaks)))
    assert bench.rows(query) == [("reference", None, True, 3, 60, 90, 100, 100, 100, 100)]


def test_what_was_stopped_keeps_what_it_had_taken(bench: Bench) -> None:
    job = start(bench)
    for end in (lease.stopped, lease.release):
        claimed = bench.must_claim()
        bench.cancel(job)
        bench.database.run(partial(end, lease=claimed.lease, peaks=Peaks(5, 6, 7)))
        assert amounts(bench, "peak")[-1] == [5, 6, 7]
        job = start(bench)


def test_attempts_are_forgotten_only_long_after_their_execution_was_over(bench: Bench) -> None:
    start(bench)
    bench.fail(bench.must_claim(), WorkerLost("gone"))
    bench.execute("UPDATE attempts SET started_at = now() - interval '1 year'")
    assert bench.database.run(lambda s: history.forget(s, "attempts", 3600)) == 0
    bench.finish(bench.must_claim())
    assert bench.database.run(lambda s: history.forget(s, "attempts", 3600)) == 0
    bench.execute("UPDATE executions SET finished_at = now() - interval '2 hours'")
    assert bench.database.run(lambda s: history.forget(s, "attempts", 3600)) == 1


def test_what_kills_its_workers_fails_its_own_job_alone(bench: Bench) -> None:
    poison = bench.submit(steps=FETCH, source="file:///poison", priority=9)
    other = bench.submit(steps=FETCH, source="file:///other")
    bench.bind_all()
    for _ in range(PATIENT.deaths_max):
        killed = bench.must_claim()
        bench.lose(killed, PATIENT)
    error = error_of(bench, poison)
    assert error["code"] == "worker_killer"
    assert "died 3 times" in error["message"]
    assert attempts(bench, killed) == [
        (1, "lost", "worker_lost"),
        (2, "lost", "worker_lost"),
        (3, "lost", error["code"]),
    ]
    assert bench.status(other) == "queued"
    assert bench.work_off() == 1
    assert bench.status(other) == "succeeded"


def test_the_last_chance_of_what_may_be_poison_is_taken_by_an_idle_worker_alone(bench: Bench) -> None:
    suspect = bench.submit(steps=FETCH, source="file:///suspect", priority=9)
    bench.bind_all()
    for _ in range(PATIENT.deaths_max - 1):
        bench.lose(bench.must_claim(is_idle=False), PATIENT)
    beside = bench.submit(steps=FETCH, source="file:///beside")
    bench.bind_all()
    taken = bench.must_claim(is_idle=False)  # smaller chances go on meanwhile
    bench.finish(taken)
    assert bench.status(beside) == "succeeded"
    assert bench.claim(is_idle=False) is None
    alone = bench.must_claim(is_idle=True)
    assert alone.need == ROOM.whole()
    bench.finish(alone)
    assert bench.status(suspect) == "succeeded"


def test_one_death_makes_work_no_suspect_unless_one_is_all_that_is_left(bench: Bench) -> None:
    start(bench)
    bench.lose(bench.must_claim(), PATIENT)
    assert bench.claim(is_idle=False, deaths_max=2) is None
    assert bench.must_claim(is_idle=False, deaths_max=3).need == Need(1, 0, 1)


def test_failures_that_killed_no_worker_are_not_held_to_be_poison(bench: Bench) -> None:
    job = start(bench)
    for _ in range(PATIENT.deaths_max - 1):
        bench.lose(bench.must_claim(), PATIENT)
    for _ in range(PATIENT.deaths_max):
        bench.fail(bench.must_claim(), ChildCrashed("It ended."), PATIENT)
    assert bench.status(job) == "running"
    bench.lose(bench.must_claim(), PATIENT)
    assert error_of(bench, job)["code"] == "worker_killer"


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_a_job_says_how_often_its_work_is_tried(bench: Bench, max_attempts: int) -> None:
    job = start(bench)
    bench.execute("UPDATE jobs SET max_attempts = :max_attempts", max_attempts=max_attempts)
    for _ in range(max_attempts):
        assert bench.status(job) != "failed"
        bench.fail(bench.must_claim(), ChildCrashed("It ended."))
    assert bench.status(job) == "failed"


def test_shared_work_is_tried_as_often_as_the_most_patient_of_its_jobs_wants(bench: Bench) -> None:
    hasty, patient = bench.submit(steps=FETCH), bench.submit(steps=FETCH)
    bench.bind_all()
    bench.execute("UPDATE jobs SET max_attempts = 1 WHERE id = :id", id=hasty)
    for _ in range(RETRY.attempts_max):
        bench.fail(bench.must_claim(), ChildCrashed("It ended."))
    assert (bench.status(hasty), bench.status(patient)) == ("failed", "failed")


def test_a_wrong_request_is_never_tried_again(bench: Bench) -> None:
    job = start(bench)
    bench.fail(bench.must_claim(), SourceInvalid("wrong"), PATIENT)
    assert bench.status(job) == "failed"


def test_the_wait_doubles_and_varies_within_its_bounds(bench: Bench) -> None:
    start(bench)
    patient = Retry(attempts_max=20, backoff_seconds=10, deaths_max=20)
    waits = []
    for number in range(1, BACKOFF_DOUBLINGS_MAX + 4):
        claimed = bench.must_claim()
        bench.fail(claimed, ChildCrashed("It ended."), patient)
        wait = bench.value("SELECT CAST(extract(epoch FROM ready_at - clock_timestamp()) AS float) FROM executions")
        base = 10 * 2 ** min(number - 1, BACKOFF_DOUBLINGS_MAX)
        assert base * (1 - JITTER) - 1 < wait < base * (1 + JITTER)
        waits.append(wait / base)
        assert bench.claim() is None
        bench.execute("UPDATE executions SET ready_at = now()")
    assert max(waits) - min(waits) > 0.01


def test_what_did_not_fit_is_tried_again_with_twice_the_room(bench: Bench) -> None:
    job = start(bench, Need(10 * GB, 0, 3 * GB))
    bench.fail(bench.must_claim(), DoesNotFit("It was killed for memory."))
    claimed = bench.must_claim()
    assert need_of(bench, claimed) == Need(20 * GB, 0, 6 * GB)
    bench.fail(claimed, DoesNotFit("It was killed for memory."), peaks=Peaks(21 * GB, None, GB))
    error = error_of(bench, job)
    assert error["code"] == "does_not_fit"
    assert "given 20.0 GB of memory" in error["message"]
    assert error["message"].endswith(" Measured at most: 21.0 GB of memory, 1.0 GB of scratch disk.")


def test_what_did_not_fit_asks_for_no_more_than_the_largest_live_worker_has(bench: Bench) -> None:
    only_worker(bench, "gpu", Room(15 * GB, 100 * GB, 100 * GB), Room(4 * GB, 60 * GB, 100 * GB))
    start(bench, Need(10 * GB, 80 * GB, 3 * GB), REFERENCE)
    bench.execute("UPDATE workers SET memory_bytes = 10 ^ 12 WHERE stopped_at IS NOT NULL")  # gone: does not count
    claimed = bench.must_claim("gpu")
    bench.fail(claimed, DoesNotFit("It was killed for memory."))
    assert need_of(bench, claimed) == Need(15 * GB, 100 * GB, 6 * GB)
    assert bench.database.run(lambda s: expiry.misfits(s, MISFIT_SECONDS)) == []


@pytest.mark.parametrize("before", [ChildCrashed("It ended."), WorkerLost("gone")], ids=lambda error: error.code)
def test_what_did_not_fit_is_tried_again_though_it_has_failed_otherwise_before(
    bench: Bench, before: FewbitsError
) -> None:
    job = start(bench)
    bench.fail(bench.must_claim(), before, PATIENT)
    bench.fail(bench.must_claim(), DoesNotFit("It was killed for memory."), PATIENT)
    assert bench.status(job) == "running"


def test_what_did_not_fit_still_fits_a_worker_without_gpu(bench: Bench) -> None:
    only_worker(bench, "gpu", Room(100 * GB, None, 100 * GB))
    start(bench, Need(60 * GB, 30 * GB, GB), REFERENCE)
    bench.fail(bench.must_claim("gpu"), DoesNotFit("It was killed for memory."))
    assert bench.database.run(lambda s: expiry.misfits(s, MISFIT_SECONDS)) == []


def test_what_did_not_fit_a_gpu_still_needs_one(bench: Bench) -> None:
    only_worker(bench, "gpu", Room(100 * GB, None, 100 * GB), Room(50 * GB, 80 * GB, 50 * GB))
    start(bench, Need(10 * GB, 30 * GB, GB, needs_gpu=True), REFERENCE)
    claimed = bench.must_claim("gpu", room=Room(50 * GB, 80 * GB, 50 * GB), capacity=Room(50 * GB, 80 * GB, 50 * GB))
    bench.fail(claimed, DoesNotFit("It was killed for memory."))
    assert need_of(bench, claimed) == Need(20 * GB, 60 * GB, 2 * GB, needs_gpu=True)


def test_what_needs_a_gpu_is_a_misfit_where_no_worker_has_one(bench: Bench) -> None:
    only_worker(bench, "gpu", Room(100 * GB, None, 100 * GB))
    job = start(bench, Need(GB, 0, GB, needs_gpu=True), REFERENCE)
    bench.execute("UPDATE executions SET ready_at = now() - interval '1 hour'")
    (misfit,) = bench.database.run(lambda s: expiry.misfits(s, MISFIT_SECONDS))
    assert bench.database.run(lambda s: expiry.give_up(s, misfit))
    assert "Reference needs an NVIDIA GPU, 1.0 GB of memory" in error_of(bench, job)["message"]


def test_what_did_not_fit_still_fits_one_of_several_workers(bench: Bench) -> None:
    rooms = [Room(100 * GB, None, 10 * GB), Room(10 * GB, None, 100 * GB)]
    only_worker(bench, "cpu", *rooms)
    start(bench, Need(60 * GB, 0, 6 * GB))
    bench.fail(bench.must_claim(), DoesNotFit("It was killed for memory."))
    assert any(bench.claim(room=room, capacity=room) for room in rooms)


def test_work_that_fits_none_of_several_workers_is_a_misfit(bench: Bench) -> None:
    rooms = [Room(100 * GB, None, 10 * GB), Room(10 * GB, None, 100 * GB)]
    only_worker(bench, "cpu", *rooms)
    start(bench, Need(60 * GB, 0, 60 * GB))
    assert [bench.claim(room=room, capacity=room) for room in rooms] == [None, None]
    assert len(bench.database.run(lambda s: expiry.misfits(s, MISFIT_SECONDS))) == 1


def test_a_job_that_is_cancelling_has_no_say_in_how_often_shared_work_is_tried(bench: Bench) -> None:
    """It waits for the end of its own other step."""
    steps = (*FETCH, *REFERENCE)
    patient, hasty = bench.submit(steps=steps), bench.submit(steps=FETCH)
    bench.bind_all()
    bench.execute("UPDATE jobs SET max_attempts = CASE id WHEN :patient THEN 10 ELSE 1 END", patient=patient)
    shared, own = bench.must_claim(), bench.must_claim("gpu")
    bench.cancel(patient)
    assert bench.status(patient) == "cancelling"
    bench.fail(shared, ChildCrashed("It ended."))
    assert bench.status(hasty) == "failed"
    bench.stopped(own)


def test_what_a_second_dead_worker_held_runs_again_within_15_seconds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the end of its lease: what rescue and dispatch take, and what is waited, with the defaults."""
    monkeypatch.setattr(random, "uniform", lambda _, most: most)
    default = {name: field.default for name, field in Settings.model_fields.items()}
    retry = Retry(default["attempts_max"], default["retry_backoff_seconds"])
    start(bench)
    bench.lose(bench.must_claim(), retry)
    bench.execute("UPDATE executions SET ready_at = now()")
    bench.lose(bench.must_claim(), retry)
    wait = bench.value("SELECT CAST(extract(epoch FROM ready_at - clock_timestamp()) AS float) FROM executions")
    assert default["rescue_seconds"] + wait + DISPATCH_SECONDS < 15
