"""Silent workers lose their executions, but not because Postgres was away; blobs that nothing uses are collected."""

import threading

from sqlalchemy import text

from db import artifacts, expiry
from db.artifacts import intend
from tests.db.conftest import LEASE_SECONDS, RETRY, Bench

SOON = 1e-6


def test_an_expired_lease_goes_to_another_worker(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    lost = bench.must_claim(lease_seconds=SOON)
    assert bench.database.run(lambda s: expiry.expired(s, SOON)) == [lost.lease.execution_id]
    assert bench.expire(lost.lease.execution_id)
    assert not bench.expire(lost.lease.execution_id)
    assert bench.steps(job)["fetch"] == "ready"
    assert bench.must_claim().attempt == 2


def test_a_live_lease_is_left_alone(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    held = bench.must_claim()
    assert bench.database.run(lambda s: expiry.expired(s, SOON)) == []
    assert not bench.expire(held.lease.execution_id)


def test_nothing_expires_until_postgres_has_been_up_for_a_lease(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    bench.must_claim(lease_seconds=SOON)
    assert bench.database.run(lambda s: expiry.expired(s, 10**6)) == []


def test_the_attempts_of_lost_workers_are_counted(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    for _ in range(RETRY.attempts_max):
        lost = bench.must_claim(lease_seconds=SOON)
        bench.expire(lost.lease.execution_id)
    assert bench.status(job) == "failed"
    error = bench.job(job).error
    assert error is not None
    assert error["code"] == "worker_lost"


def test_a_lost_worker_of_a_cancelled_job_ends_it(bench: Bench) -> None:
    job = bench.submit()
    bench.bind_all()
    lost = bench.must_claim(lease_seconds=SOON)
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
