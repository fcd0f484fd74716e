"""Two verbs that meet on one execution at the same moment: one of them counts, and the rows say which."""

import contextlib
import hashlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy.exc import OperationalError

from core.errors import Conflict
from core.ids import JobId
from core.manifest import StoredFile, manifest_digest
from db import watch, workers
from db.artifacts import NewArtifact, intend
from db.claim import Claim
from db.lease import Result, finish
from db.renewal import LeaseState
from db.tokens import LeaseLost
from tests.db.at_once import deadlocks, together
from tests.db.conftest import CHAIN, LEASE_SECONDS, RETRY, Bench
from tests.db.sense import nonsense
from tests.waiting import wait_until

DUELS = 12
ONE_STEP = CHAIN[:1]


def duels(bench: Bench, *acts: Callable[[JobId, Claim], Any], count: int = DUELS) -> list[tuple[str, str]]:
    """Do several things at once to a running job, over and over; return how each job and its last attempt ended."""
    ends = []
    for number in range(count):
        job = bench.submit(steps=ONE_STEP, source=f"file:///{number}")
        bench.bind_all()
        claimed = bench.must_claim()
        together(*(partial(act, job, claimed) for act in acts))
        assert nonsense(bench.database) == []
        query = "SELECT outcome FROM attempts WHERE execution_id = :id ORDER BY number DESC LIMIT 1"
        ends.append((bench.status(job), str(bench.value(query, id=claimed.lease.execution_id))))
        bench.execute("UPDATE executions SET ready_at = 'infinity' WHERE status = 'ready'")  # not for the next duel
    assert deadlocks(bench) == 0
    return ends


def expire_now(bench: Bench, claimed: Claim) -> None:
    execution_id = claimed.lease.execution_id
    bench.execute("UPDATE executions SET lease_expires_at = now() WHERE id = :id", id=execution_id)
    bench.expire(execution_id, RETRY)


def finishes(bench: Bench, claimed: Claim) -> bool:
    try:
        bench.finish(claimed)
    except LeaseLost:
        return False
    return True


def test_a_cancel_and_a_finish_at_once(bench: Bench) -> None:
    def cancel(job: JobId, _: Claim) -> None:
        with contextlib.suppress(Conflict):
            bench.cancel(job)

    ends = duels(bench, cancel, lambda _, claimed: bench.finish(claimed))
    assert set(ends) <= {("succeeded", "succeeded"), ("cancelled", "succeeded")}


def test_renewals_and_a_finish_at_once(bench: Bench) -> None:
    def beat(_job: JobId, claimed: Claim) -> None:
        for _ in range(5):
            bench.renew(claimed)

    ends = duels(bench, beat, lambda _, claimed: bench.finish(claimed))
    assert set(ends) == {("succeeded", "succeeded")}


def test_a_join_and_a_finish_at_once(bench: Bench) -> None:
    """Whoever wants the same work gets its result, joined or reused."""
    joined: list[JobId] = []

    def join(job: JobId, _: Claim) -> None:
        source = bench.value("SELECT source FROM jobs WHERE id = :id", id=job)
        joined.append(bench.submit(steps=ONE_STEP, source=source))
        bench.bind_all()

    ends = duels(bench, join, lambda _, claimed: bench.finish(claimed))
    assert set(ends) == {("succeeded", "succeeded")}
    assert {bench.status(job) for job in joined} == {"succeeded"}
    assert bench.value("SELECT count(*) FROM executions") == DUELS


def test_the_end_of_a_lease_and_a_finish_at_once(bench: Bench) -> None:
    """One of the two counts, never both and never none."""
    finished: list[bool] = []

    def expire(_: JobId, claimed: Claim) -> None:
        expire_now(bench, claimed)

    bench.watch()
    ends = duels(bench, expire, lambda _, claimed: finished.append(finishes(bench, claimed)))
    assert ends == [("succeeded", "succeeded") if done else ("running", "lost") for done in finished]


def test_a_cancel_and_the_end_of_a_lease_at_once(bench: Bench) -> None:
    def expire(_: JobId, claimed: Claim) -> None:
        expire_now(bench, claimed)

    bench.watch()
    ends = duels(bench, expire, lambda job, _: bench.cancel(job))
    assert set(ends) <= {("cancelled", "lost"), ("cancelled", "cancelled")}


def test_two_ends_of_one_lease_at_once(bench: Bench) -> None:
    finished: list[bool] = []

    def end(_: JobId, claimed: Claim) -> None:
        finished.append(finishes(bench, claimed))

    ends = duels(bench, end, end)
    assert set(ends) == {("succeeded", "succeeded")}
    assert finished.count(True) == DUELS


def test_a_claim_and_a_cancel_at_once(bench: Bench) -> None:
    claimed: list[Claim] = []

    def claim() -> None:
        if (one := bench.claim()) is not None:
            claimed.append(one)

    for number in range(DUELS):
        job = bench.submit(steps=ONE_STEP, source=f"file:///{number}")
        bench.bind_all()
        claimed.clear()
        together(claim, partial(bench.cancel, job))
        assert nonsense(bench.database) == []
        for one in claimed:
            assert bench.renew(one) is LeaseState.STOP
            bench.stopped(one)
        assert bench.status(job) == "cancelled"


def test_a_pause_stops_all_claims_that_begin_after_it(bench: Bench) -> None:
    for number in range(30):
        bench.submit(steps=ONE_STEP, source=f"file:///{number}")
    bench.bind_all()
    is_paused = threading.Event()
    late: list[Claim] = []

    def work() -> None:
        for _ in range(10):
            paused_before = is_paused.is_set()
            claimed = bench.claim()
            if claimed is not None and paused_before:
                late.append(claimed)

    def pause() -> None:
        bench.database.run(partial(workers.pause, pool="cpu"))
        is_paused.set()

    together(work, work, pause)
    assert late == []
    assert bench.claim() is None


def test_looks_at_once_keep_one_watch(bench: Bench) -> None:
    """Two rescues beside each other, as in a rolling restart."""
    together(*[lambda: bench.database.run(partial(watch.look, lease_seconds=LEASE_SECONDS))] * 4)
    assert bench.value("SELECT count(*) FROM rescue_watch") == 1


def test_an_upload_and_a_finish_of_the_same_blobs_cannot_deadlock(bench: Bench) -> None:
    first, second = sorted(hashlib.sha256(content.encode()).hexdigest() for content in "xy")
    files = (StoredFile("a", second, 1), StoredFile("b", first, 1))  # named otherwise than they sort
    for source in "ab":
        bench.submit(steps=ONE_STEP, source=f"file:///{source}")
    bench.bind_all()
    ends, uploads = bench.must_claim(), bench.must_claim()
    bench.database.run(lambda s: intend(s, ends.lease, {first: 1, second: 1}))
    artifact = NewArtifact("intermediate", "gguf", manifest_digest(files), files)
    finisher = threading.Thread(
        target=bench.database.run, args=(lambda s: finish(s, ends.lease, Result({}, artifact)),), daemon=True
    )
    waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with contextlib.suppress(OperationalError), bench.database.transaction() as session:
        intend(session, uploads.lease, {first: 1})  # as between the two rows of one announcement
        finisher.start()
        wait_until(lambda: bool(bench.value(waits)))
        intend(session, uploads.lease, {second: 1})
    finisher.join()
    assert deadlocks(bench) == 0
