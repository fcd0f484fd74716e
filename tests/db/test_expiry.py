"""Silent workers lose their executions, but not because Postgres was away; blobs that nothing uses are collected."""

import threading
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from core.manifest import StoredFile
from db import artifacts, expiry, history, logs, watch
from db.artifacts import intend
from db.claim import Claim
from db.lease import Result, finish, keep, release
from db.renewal import LeaseState, Renewal, renew
from db.tokens import LeaseLost
from tests.db.conftest import LEASE_SECONDS, RETRY, Bench

SOON = 1e-6


def test_an_expired_lease_goes_to_another_worker(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    lost = bench.must_claim(lease_seconds=SOON)
    bench.watch()
    assert bench.database.run(expiry.expired) == [lost.lease.execution_id]
    assert bench.expire(lost.lease.execution_id)
    assert not bench.expire(lost.lease.execution_id)
    assert bench.steps(job)["fetch"] == "ready"
    assert bench.must_claim().attempt == 2


def test_a_live_lease_is_left_alone(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    held = bench.must_claim()
    bench.watch()
    assert bench.database.run(expiry.expired) == []
    assert not bench.expire(held.lease.execution_id)


def test_no_lease_is_over_before_rescue_has_watched_for_a_whole_one(bench: Bench) -> None:
    """After an outage of Postgres, or of rescue, its holder has one lease's time to renew it."""
    bench.submit()
    bench.bind_all()
    held = bench.must_claim(lease_seconds=SOON)
    bench.database.run(lambda s: watch.look(s, 1000))
    assert bench.database.run(expiry.expired) == []
    assert bench.renew(held) is LeaseState.HELD


def test_a_break_in_the_watch_gives_everybody_a_lease_to_renew(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    bench.must_claim(lease_seconds=SOON)
    bench.watch()
    assert len(bench.database.run(expiry.expired)) == 1
    with bench.database.transaction() as session:
        session.execute(text("UPDATE rescue_watch SET looked_at = now() - interval '501 s'"))
    bench.database.run(lambda s: watch.look(s, 1000))
    assert bench.database.run(expiry.expired) == []


def test_who_has_stalled_past_the_end_of_a_lease_writes_nothing_though_nobody_took_it(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    stalled = bench.must_claim(lease_seconds=SOON)
    bench.watch()
    assert bench.renew(stalled) is LeaseState.LOST
    for write in (
        lambda s: finish(s, stalled.lease, Result({})),
        lambda s: intend(s, stalled.lease, {"a" * 64: 1}),
        lambda s: logs.append(s, stalled.lease, 1, "text", 0),
        lambda s: release(s, stalled.lease),
    ):
        with pytest.raises(LeaseLost):
            bench.database.run(write)
    assert bench.steps(job)["fetch"] == "running"


def test_a_worker_that_claims_again_what_it_has_lost_is_told_so(bench: Bench) -> None:
    """As after a stall: it claims before it renews, and still holds the old lease in its book."""
    bench.submit()
    bench.bind_all()
    old = bench.must_claim()
    bench.lose(old)
    new = bench.must_claim()
    assert new.lease.execution_id == old.lease.execution_id
    renewals = [Renewal(old.lease, {"done": 1}), Renewal(new.lease, {"done": 2})]
    told = bench.database.run(lambda s: renew(s, bench.worker, renewals, LEASE_SECONDS, None))
    assert [one.state for one in told] == [LeaseState.LOST, LeaseState.HELD]
    assert bench.value("SELECT progress FROM executions") == {"done": 2}


def test_the_attempts_of_lost_workers_are_counted(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    for _ in range(RETRY.attempts_max):
        lost = bench.must_claim(lease_seconds=SOON)
        bench.watch()
        bench.expire(lost.lease.execution_id)
    assert bench.status(job) == "failed"
    error = bench.job(job).error
    assert error is not None
    assert error["code"] == "worker_killer"
    assert "died 3 times" in error["message"]


def test_a_lost_worker_of_a_cancelled_job_ends_it(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    lost = bench.must_claim(lease_seconds=SOON)
    bench.watch()
    bench.cancel(job)
    bench.expire(lost.lease.execution_id)
    assert bench.status(job) == "cancelled"


def test_only_blobs_that_nothing_pins_are_garbage(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    sha256 = "a" * 64
    bench.database.run(lambda s: intend(s, claimed.lease, {sha256: 1}))
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) is None  # a live intent
    bench.finish(claimed)  # commits another blob
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, LEASE_SECONDS)) is None  # too young
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) == sha256
    bench.database.run(lambda s: artifacts.forget(s, sha256))
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) is None
    with bench.database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM blobs")).scalar_one() == 1


def test_work_that_fits_no_worker_fails_with_the_forecast(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    with bench.database.transaction() as session:
        session.execute(text("UPDATE executions SET memory_bytes = 2 * 10::bigint ^ 12"))
    (misfit,) = bench.database.run(lambda s: expiry.misfits(s, SOON))
    assert bench.database.run(lambda s: expiry.misfits(s, 1000)) == []
    assert bench.database.run(lambda s: expiry.give_up(s, misfit))
    assert not bench.database.run(lambda s: expiry.give_up(s, misfit))
    error = bench.job(job).error
    assert error is not None
    assert error["code"] == "does_not_fit"
    assert "2000.0 GB of memory" in error["message"]


def test_a_blob_that_is_wanted_again_while_it_is_collected_is_kept(bench: Bench) -> None:
    """The collector's first look began before the intent was committed."""
    bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    sha256 = "a" * 64
    bench.database.run(lambda s: intend(s, claimed.lease, {sha256: 1}))
    bench.release(claimed)
    again = bench.must_claim()
    with bench.database.transaction() as collector:
        assert artifacts.lock_garbage(collector, 0) == sha256
        uploader = threading.Thread(
            target=bench.database.run, args=(lambda s: intend(s, again.lease, {sha256: 1}),), daemon=True
        )
        uploader.start()  # waits for the collector's lock
        artifacts.forget(collector, sha256)
    uploader.join()
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) is None
    with bench.database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM blobs")).scalar_one() == 1


def test_a_checkpoint_pins_its_files_until_its_execution_is_over(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    sha256 = "a" * 64
    bench.release(bench.must_claim(), (StoredFile("state", sha256, 1),))
    bench.database.run(history.forget_intents)
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) is None
    again = bench.must_claim()
    assert [file.name for file in checkpoint_of(bench, again)] == ["state"]
    bench.release(again)  # without one of its own: the earlier one is kept
    last = bench.must_claim()
    assert [file.name for file in checkpoint_of(bench, last)] == ["state"]
    bench.finish(last)
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) == sha256


def test_the_checkpoint_of_cancelled_work_pins_nothing(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    sha256 = "a" * 64
    bench.release(bench.must_claim(), (StoredFile("state", sha256, 1),))
    bench.cancel(job)
    bench.database.run(history.forget_intents)
    assert bench.status(job) == "cancelled"
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) == sha256


def test_what_a_newer_checkpoint_does_not_need_may_go_though_the_work_goes_on(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    first, second, third = (StoredFile(name, name[0] * 64, 1) for name in ("a state", "b layer", "c state"))
    bench.keep(claimed, (first, second))
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) is None
    bench.keep(claimed, (second, third))
    assert checkpoint_of(bench, claimed) == [second, third]
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) == first.sha256
    bench.database.run(lambda s: artifacts.forget(s, first.sha256))
    changed = StoredFile(second.name, "d" * 64, 1)
    bench.keep(claimed, (changed,))
    assert checkpoint_of(bench, claimed) == [changed]


def test_the_checkpoint_of_a_lost_worker_is_there_for_the_next_and_no_more_its_own(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    lost = bench.must_claim()
    file = StoredFile("state", "a" * 64, 1)
    bench.keep(lost, (file,))
    bench.lose(lost)
    with pytest.raises(LeaseLost):
        bench.database.run(lambda s: keep(s, lost.lease, ()))
    again = bench.must_claim()
    assert checkpoint_of(bench, again) == [file]
    assert bench.database.run(lambda s: artifacts.lock_garbage(s, 0)) is None


def checkpoint_of(bench: Bench, claimed: Claim) -> Sequence[StoredFile]:
    return bench.database.run(lambda s: artifacts.checkpoint_of(s, claimed.lease.execution_id))
