"""Many at once on the same executions: no deadlock is left to a user, and the rows make sense afterwards."""

import contextlib
import hashlib
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from core.errors import Conflict, SourceInvalid, WorkerLost
from core.ids import JobId
from core.manifest import StoredFile, manifest_digest
from db import bind, quotas, watch, workers
from db.artifacts import NewArtifact, intend
from db.claim import Claim
from db.ending import Retry
from db.jobs import PlannedStep
from db.lease import Result, finish
from db.renewal import LeaseState, Renewal, renew
from db.states import Quota
from db.tokens import LeaseLost
from tests.db import control_loops
from tests.db.conftest import CHAIN, LEASE_SECONDS, RETRY, Bench
from tests.db.sense import nonsense
from tests.waiting import wait_until

ROUNDS = 60
WORKERS = 3
DUELS = 12
CLAIMERS = 8
ONE_STEP = CHAIN[:1]
SLOW = Retry(attempts_max=3, backoff_seconds=600)  # what is tried again does not come before what is new


def together(*acts: Callable[[], Any]) -> None:
    """Do all of it at once, and fail as the first of it does."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> None:
        try:
            start.wait()
            act()
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def deadlocks(bench: Bench) -> int:
    """Return how many Postgres had to break, though a verb was run again and nobody has noticed."""
    bench.database.dispose()  # what ends tells all that it has counted
    return int(bench.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))


class Crowd:
    """Users, workers, operators and rescue that meet on few sources. Chance comes from the threads' order, too."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.jobs: list[JobId] = []
        self.held: list[Claim] = []
        self.dice = random.Random(7)  # noqa: S311 - no secret

    def submit(self) -> None:
        self.jobs.append(self.bench.submit(steps=CHAIN, source=f"file:///{self.dice.choice('abc')}"))

    def cancel(self) -> None:
        if self.jobs:
            with contextlib.suppress(Conflict):
                self.bench.cancel(self.dice.choice(self.jobs))

    def refuse(self) -> None:
        error = SourceInvalid("cannot be described").document()
        for step in self.bench.database.run(partial(bind.unbound_steps, after="", limit=1)):
            if self.dice.random() < 0.2:
                self.bench.database.run(partial(bind.refuse, step=step, error=error))

    def work(self) -> None:
        self.bench.bind_all()
        pool = self.dice.choice(["cpu", "gpu"])
        claimed = self.bench.claim(pool, lease_seconds=self.dice.choice([1e-6, LEASE_SECONDS]), running_max=2)
        if claimed is not None:
            self.held.append(claimed)
            with contextlib.suppress(LeaseLost):
                self.end(claimed)

    def end(self, claimed: Claim) -> None:
        chance = self.dice.random()
        if chance < 0.1:
            self.bench.fail(claimed, SourceInvalid("wrong"))
        elif chance < 0.2:
            self.bench.fail(claimed, WorkerLost("lost"))
        elif chance < 0.3:
            self.bench.release(claimed)
        elif chance < 0.4:
            pass  # stalls, and is expired
        elif self.bench.renew(claimed) is LeaseState.STOP:
            self.bench.stopped(claimed)
        else:
            self.bench.finish(claimed, self.dice.choice("xyz"))

    def renew(self) -> None:
        """Renew what anybody has claimed lately, while it is being ended."""
        renewals = [Renewal(one.lease, {"done": 1}) for one in self.held[-8:]]
        self.bench.database.run(lambda s: renew(s, self.bench.worker, renewals, LEASE_SECONDS, None))

    def rescue(self) -> None:
        self.bench.watch()
        control_loops.rescue(self.bench.database, RETRY)
        control_loops.collect(self.bench.database)

    def operate(self) -> None:
        run, dice = self.bench.database.run, self.dice
        run(partial(dice.choice([workers.pause, workers.resume]), pool="cpu"))
        run(partial(workers.drain, worker_id=self.bench.gpu_worker, claims_again=dice.random() < 0.5))
        run(partial(quotas.set_quota, team_id=self.bench.team, name=Quota.RUNNING_CPU, maximum=dice.choice([None, 1])))

    def leave(self) -> None:
        """Let operators take back what they have said, and workers fall silent."""
        run = self.bench.database.run
        run(partial(workers.resume, pool="cpu"))
        run(partial(workers.drain, worker_id=self.bench.gpu_worker, claims_again=True))
        run(partial(quotas.set_quota, team_id=self.bench.team, name=Quota.RUNNING_CPU, maximum=None))
        self.bench.execute("UPDATE executions SET lease_expires_at = now() WHERE status = 'running'")


def test_verbs_that_meet_leave_sense(bench: Bench) -> None:
    crowd = Crowd(bench)
    acts = [crowd.submit, crowd.cancel, crowd.refuse, crowd.renew, crowd.rescue, crowd.operate, *[crowd.work] * WORKERS]

    def repeat(act: Callable[[], None]) -> None:
        for _ in range(ROUNDS):
            act()

    together(*(partial(repeat, act) for act in acts))
    assert nonsense(bench.database) == []
    crowd.leave()
    crowd.rescue()
    while bench.work_off():
        crowd.rescue()
    assert {bench.status(job) for job in crowd.jobs} <= {"succeeded", "failed", "cancelled"}
    assert nonsense(bench.database) == []
    assert deadlocks(bench) == 0


def test_a_team_never_runs_more_than_its_quota(bench: Bench) -> None:
    for number in range(60):
        bench.submit(steps=ONE_STEP, source=f"file:///{number}")
    bench.bind_all()
    counts: list[int] = []

    def work() -> None:
        for _ in range(10):
            claimed = bench.claim(running_max=3)
            counts.append(bench.value("SELECT count(*) FROM executions WHERE status = 'running'"))
            if claimed is not None:
                bench.finish(claimed)

    together(*[work] * CLAIMERS)
    assert max(counts) <= 3
    assert nonsense(bench.database) == []


def test_claims_in_several_pools_at_once_take_each_execution_once(bench: Bench) -> None:
    teams = [bench.team, bench.new_team("two")]
    for number in range(40):
        kind, pool = ("fetch", "cpu") if number % 2 else ("reference", "gpu")
        steps = (PlannedStep(kind, pool, (), {}),)
        bench.submit(teams[number // 2 % 2], steps=steps, source=f"file:///{number}")
    bench.bind_all()
    claimed: list[str] = []

    def claim_all(pool: str) -> None:
        while (one := bench.claim(pool)) is not None:
            claimed.append(one.lease.execution_id)

    together(*(partial(claim_all, pool) for pool in ["cpu", "gpu"] * 3))
    assert len(claimed) == len(set(claimed)) == 40


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
    assert deadlocks(bench) == 0
    return ends


def expire_now(bench: Bench, claimed: Claim) -> None:
    execution_id = claimed.lease.execution_id
    bench.execute("UPDATE executions SET lease_expires_at = now() WHERE id = :id", id=execution_id)
    bench.expire(execution_id, SLOW)


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
    def beat(_: JobId, claimed: Claim) -> None:
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


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="both lock the blobs they share, each in its own order")
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
