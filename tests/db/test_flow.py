"""From submit to the end of a job: what becomes ready when, what is shared, what a cancel lets go."""

import hashlib
from functools import partial

import psycopg
import pytest
from sqlalchemy import select

from core.errors import Conflict, NotFound, SourceInvalid, WorkerLost
from core.ids import JobId
from db import artifacts, deadlines, demand, events
from db.bind import Binding
from db.claim import Claim
from db.jobs import PlannedStep
from db.lease import Result, finish
from db.notify import JOBS, WORK
from db.renewal import LeaseState
from db.tables import Execution
from db.tokens import LeaseLost
from tests.db.conftest import CHAIN, PUBLISH, RETRY, Bench
from tests.db.shifted_clock import ShiftedClock


def test_steps_become_ready_as_what_they_need_succeeds(bench: Bench) -> None:
    job = bench.submit(steps=CHAIN)
    assert bench.steps(job) == {
        "fetch": "ready",
        "quantize": "waiting",
        "reference": "waiting",
        "evaluate": "waiting",
    }
    bench.bind_all()
    fetch = bench.must_claim()
    assert bench.status(job) == "running"
    bench.finish(fetch)
    assert bench.steps(job) == {
        "fetch": "succeeded",
        "quantize": "ready",
        "reference": "ready",
        "evaluate": "waiting",
    }
    assert bench.work_off() == 3
    assert bench.status(job) == "succeeded"


def test_whoever_listens_hears_of_every_change_and_of_new_work(bench: Bench) -> None:
    job = bench.submit(steps=(PlannedStep("fetch", "cpu", (), {}), PlannedStep("reference", "gpu", ("fetch",), {})))
    bench.bind_all()
    with psycopg.connect(bench.database.url, autocommit=True) as connection:

        def heard() -> set[tuple[str, str]]:
            return {(notice.channel, notice.payload) for notice in connection.notifies(timeout=0.2)}

        for channel in (JOBS, WORK):
            connection.execute(f"LISTEN {channel}")
        claimed = bench.must_claim()
        assert heard() == {(JOBS, job)}
        bench.release(claimed)
        assert heard() == {(JOBS, job), (WORK, "cpu")}
        bench.finish(bench.must_claim())
        assert heard() == {(JOBS, job), (WORK, "gpu")}
        bench.bind_all()
        assert heard() == set()
        bench.finish(bench.must_claim("gpu"))
        assert heard() == {(JOBS, job)}


def test_events_are_numbered_without_gaps(bench: Bench) -> None:
    job = bench.submit(steps=CHAIN)
    bench.work_off()
    story = bench.database.run(lambda s: events.after(s, job, 0, 100))
    assert [event.number for event in story] == list(range(1, len(story) + 1))
    assert story[0].message == "The job is queued."
    assert story[-1].message == "The job has succeeded."
    assert [event.number for event in bench.database.run(lambda s: events.after(s, job, 3, 2))] == [4, 5]


def test_two_jobs_with_one_key_share_an_execution(bench: Bench) -> None:
    first, second = bench.submit(), bench.submit()
    assert bench.bind_all() == [Binding.STARTED, Binding.JOINED]
    bench.finish(bench.must_claim())
    assert bench.claim() is None
    assert bench.work_off() == 1
    assert bench.status(first) == bench.status(second) == "succeeded"


def test_a_joined_running_execution_starts_the_job(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    second = bench.submit()
    assert bench.bind_all() == [Binding.JOINED]
    assert bench.status(second) == "running"
    bench.finish(claimed)
    assert bench.steps(second)["fetch"] == "succeeded"


def test_a_succeeded_execution_is_reused_at_once(bench: Bench) -> None:
    bench.submit(steps=CHAIN)
    bench.work_off()
    again = bench.submit(steps=CHAIN)
    assert set(bench.bind_all()) == {Binding.REUSED}
    assert bench.status(again) == "succeeded"
    assert all(step.reused for step in bench.job(again).steps)


def test_teams_share_nothing(bench: Bench) -> None:
    other = bench.new_team("two")
    bench.submit()
    bench.work_off()
    theirs = bench.submit(other)
    assert bench.bind_all() == [Binding.STARTED]
    with pytest.raises(NotFound):
        bench.job(theirs)
    with pytest.raises(NotFound):
        bench.cancel(theirs)
    assert bench.job(theirs, other).status == "queued"


def test_a_failed_execution_is_never_reused(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    error = SourceInvalid("broken")
    bench.fail(claimed, error)
    bench.submit()
    assert bench.bind_all() == [Binding.STARTED]


def test_a_wrong_request_fails_the_job_at_once_and_skips_the_rest(bench: Bench) -> None:
    job = bench.submit(steps=CHAIN)
    bench.bind_all()
    claimed = bench.must_claim()
    error = SourceInvalid("There is no folder.")
    bench.fail(claimed, error)
    row = bench.job(job)
    assert (row.status, row.error) == ("failed", dict(error.document()))
    assert bench.steps(job) == {"fetch": "failed", "quantize": "skipped", "reference": "skipped", "evaluate": "skipped"}


def test_work_that_went_wrong_is_tried_until_its_attempts_are_used(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    error = WorkerLost("gone")
    for attempt in range(1, RETRY.attempts_max + 1):
        claimed = bench.must_claim()
        assert claimed.attempt == attempt
        bench.fail(claimed, error)
    assert bench.status(job) == "failed"


def test_without_its_token_a_worker_changes_nothing(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    old = bench.must_claim()
    bench.fail(old, WorkerLost("gone"))
    new = bench.must_claim()
    assert new.lease.token > old.lease.token
    assert bench.renew(old) is LeaseState.LOST
    for verb in (bench.finish, bench.stopped, bench.release, partial(bench.fail, error=WorkerLost("gone"))):
        with pytest.raises(LeaseLost):
            verb(old)
    assert bench.renew(new) is LeaseState.HELD
    assert bench.steps(job)["fetch"] == "running"


def test_finishing_twice_commits_once(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    bench.finish(claimed)
    with pytest.raises(LeaseLost):
        bench.finish(claimed)
    assert bench.steps(job)["fetch"] == "succeeded"


def test_a_released_execution_keeps_all_the_attempts_it_may_fail(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    for _ in range(5):
        bench.release(bench.must_claim())
    for _ in range(RETRY.attempts_max):
        assert bench.status(job) == "running"
        bench.fail(bench.must_claim(), WorkerLost("gone"))
    assert bench.status(job) == "failed"


def test_cancelling_a_queued_job_ends_it_at_once(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    bench.cancel(job)
    assert bench.status(job) == "cancelled"
    assert bench.claim() is None
    bench.cancel(job)


def test_cancelling_a_running_job_waits_for_its_child(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    bench.cancel(job)
    assert bench.status(job) == "cancelling"
    bench.cancel(job)
    assert bench.renew(claimed) is LeaseState.STOP
    bench.stopped(claimed)
    assert bench.status(job) == "cancelled"


def test_cancelling_one_of_two_jobs_leaves_their_execution_running(bench: Bench) -> None:
    first, second = bench.submit(priority=5), bench.submit(priority=1)
    bench.bind_all()
    claimed = bench.must_claim()
    bench.cancel(first)
    assert bench.status(first) == "cancelled"
    assert bench.renew(claimed) is LeaseState.HELD
    priority = select(Execution.priority).where(Execution.id == claimed.lease.execution_id)
    assert bench.database.run(lambda s: s.scalar(priority)) == 1
    bench.finish(claimed)
    assert bench.steps(second)["fetch"] == "succeeded"


def publishing(bench: Bench) -> tuple[JobId, Claim]:
    job = bench.submit(steps=PUBLISH, publish_to="file:///published/model")
    bench.bind_all()
    return job, bench.must_claim()


def test_what_has_begun_to_be_published_is_not_cancelled_and_completes(bench: Bench) -> None:
    job, claimed = publishing(bench)
    for _ in range(2):
        with pytest.raises(Conflict, match="file:///published/model, which is not broken off: it completes"):
            bench.cancel(job)
    assert bench.status(job) == "running"
    assert bench.renew(claimed) is LeaseState.HELD
    bench.finish(claimed)
    assert bench.status(job) == "succeeded"


def test_what_has_begun_to_be_published_is_not_cancelled_between_two_attempts(bench: Bench) -> None:
    job, claimed = publishing(bench)
    bench.fail(claimed, WorkerLost("gone"))
    with pytest.raises(Conflict, match="it completes"):
        bench.cancel(job)
    bench.finish(bench.must_claim())
    assert bench.status(job) == "succeeded"


def test_what_has_not_begun_to_be_published_is_cancelled(bench: Bench) -> None:
    job = bench.submit(steps=PUBLISH)
    bench.bind_all()
    bench.cancel(job)
    assert bench.status(job) == "cancelled"
    assert bench.claim() is None


def test_a_job_whose_publishing_runs_out_of_time_fails(bench: Bench, clock: ShiftedClock) -> None:
    job = bench.submit(steps=PUBLISH, max_runtime_seconds=1)
    bench.bind_all()
    claimed = bench.must_claim()
    clock.move(2)
    assert bench.expire_job(job)
    assert bench.renew(claimed) is LeaseState.STOP
    bench.stopped(claimed)
    assert bench.status(job) == "failed"


def test_a_child_that_ends_while_its_job_is_cancelling_ends_the_job(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    bench.cancel(job)
    bench.finish(claimed)
    assert bench.status(job) == "cancelled"


def test_a_step_does_not_join_an_execution_that_is_being_stopped(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    bench.cancel(job)
    bench.submit()
    assert bench.bind_all() == [Binding.POSTPONED]
    bench.stopped(claimed)
    assert bench.bind_all() == [Binding.STARTED]


def test_a_finished_job_cannot_be_cancelled(bench: Bench) -> None:
    job = bench.submit()
    bench.work_off()
    with pytest.raises(Conflict, match="succeeded already"):
        bench.cancel(job)


def test_a_failing_branch_stops_the_other(bench: Bench) -> None:
    job = bench.submit(steps=CHAIN)
    bench.bind_all()
    bench.finish(bench.must_claim())
    bench.bind_all()
    quantize, reference = bench.must_claim(), bench.must_claim("gpu")
    error = SourceInvalid("broken")
    bench.fail(quantize, error)
    assert bench.status(job) == "failed"
    assert bench.renew(reference) is LeaseState.STOP
    bench.stopped(reference)
    assert bench.status(job) == "failed"


def test_overdue_jobs_are_failed(bench: Bench) -> None:
    waiting = bench.submit(max_pending_seconds=0, source="file:///a")
    running = bench.submit(max_runtime_seconds=0, source="file:///b", priority=9)
    patient = bench.submit(max_pending_seconds=1000, source="file:///c")
    bench.bind_all()
    claimed = bench.must_claim()
    assert bench.status(running) == "running"
    overdue = bench.database.run(deadlines.overdue)
    assert set(overdue) == {waiting, running}
    for job in overdue:
        assert bench.expire_job(job)
        assert not bench.expire_job(job)
    error = bench.job(running).error
    assert error is not None
    assert (error["code"], error["param"]) == ("deadline_exceeded", "max_runtime_seconds")
    assert bench.renew(claimed) is LeaseState.STOP
    assert bench.status(patient) == "queued"


def test_the_demand_of_one_pool_does_not_hide_that_of_another(bench: Bench) -> None:
    for number in range(3):
        bench.submit(source=f"file:///{number}")
    bench.submit(steps=(PlannedStep("reference", "gpu", (), {}),))
    bench.bind_all()
    assert bench.database.run(demand.ready) == {"cpu": 3, "gpu": 1}


def test_a_warning_is_part_of_every_story_that_it_concerns(bench: Bench) -> None:
    first, second = bench.submit(), bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    bench.database.run(lambda s: finish(s, claimed.lease, Result({}, warnings=["Short text."])))
    for job in (first, second):
        story = bench.database.run(partial(events.after, job_id=job, number=0, limit=100))
        assert ("warn", "message", "Short text.") in [(event.level, event.type, event.message) for event in story]


def test_a_result_whose_blob_is_lost_is_made_anew(bench: Bench) -> None:
    bench.submit()
    bench.work_off()
    bench.database.run(lambda s: artifacts.mark_lost(s, hashlib.sha256(b"x").hexdigest()))
    again = bench.submit()
    assert bench.bind_all() == [Binding.STARTED]
    assert bench.work_off() == 2
    assert bench.status(again) == "succeeded"
