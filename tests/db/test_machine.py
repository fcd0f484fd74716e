"""Whatever users, workers, operators, rescue and time do in any order: the rows make sense, and every job ends."""

import contextlib
import hashlib
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.errors import ChildCrashed, Conflict, DoesNotFit, FewbitsError, SourceInvalid
from core.ids import JobId, TeamId
from db import artifacts, jobs, quotas, watch, workers
from db.claim import Claim
from db.ending import Retry
from db.jobs import NewJob
from db.room import Need
from db.session import Database
from db.shown import ShownJob
from db.states import Quota
from tests.db import control_loops
from tests.db.conftest import CHAIN, LEASE_SECONDS, ROOM, Bench, new_job
from tests.db.fleet import SimulatedWorker, alive
from tests.db.memory import Memory
from tests.db.sense import nonsense
from tests.db.shifted_clock import ShiftedClock

ERRORS: list[FewbitsError] = [SourceInvalid("wrong"), ChildCrashed("It ended."), DoesNotFit("large")]
RETRY = Retry(attempts_max=4, backoff_seconds=40)
HALF = ROOM.memory_bytes // 2
# Large, larger than any worker, and not for every worker of its pool; anything else is small.
NEEDS = {
    "file:///b": Need(HALF + 1, 0, 1),
    "file:///c": Need(2 * ROOM.memory_bytes, 0, 1),
    "file:///d": Need(1, 1, 1, needs_gpu=True),
}
WITH_GPU = replace(ROOM, vram_bytes=10**12)
WATCH_SECONDS = LEASE_SECONDS / 3
PICKS = st.integers(0, 1000)  # which of those there are; drawn without a look at them, so that a run can be repeated
VERBS = st.permutations(["finish", "leave", "fail"])
EVERYBODY = 0b1111
EMPTY = "TRUNCATE jobs, executions, blobs, rescue_watch, team_usage, team_quotas, paused_pools, workers CASCADE"


def planned_anew(job: ShownJob) -> NewJob:
    """Ask for the same again, without the deadline that may have ended it."""
    return new_job(steps=CHAIN, source=job.source)


class Machine(RuleBasedStateMachine):
    """Few sources and two teams, so that jobs meet on executions; two workers a pool, so that leases change hands."""

    def __init__(self, bench: Bench, other: TeamId, clock: ShiftedClock) -> None:
        super().__init__()
        self.bench = bench
        self.clock = clock
        self.teams = [bench.team, other]
        self.jobs: dict[JobId, TeamId] = {}
        self.limits: dict[TeamId, int] = {}
        self.paused: set[str] = set()
        self.drained: set[str] = set()
        self.memory = Memory(bench.database)
        rooms = [("cpu", ROOM), ("cpu", ROOM), ("gpu", ROOM), ("gpu", WITH_GPU)]
        self.workers = [SimulatedWorker(bench, self.memory, pool, RETRY, room) for pool, room in rooms]

    # What users do.

    @initialize(sources=st.lists(st.sampled_from("abd"), min_size=1, max_size=3))
    def begin(self, sources: list[str]) -> None:
        for number, source in enumerate(sources):
            self.submit(number % 2, source)

    @rule(
        team=st.integers(0, 1),
        source=st.sampled_from("aaabbbcd"),
        priority=st.integers(-2, 2),
        max_pending_seconds=st.sampled_from([None, None, None, 120]),
        max_runtime_seconds=st.sampled_from([None, None, None, 300]),
    )
    def submit(self, team: int, source: str, **values: Any) -> None:
        job = self.bench.submit(self.teams[team], steps=CHAIN, source=f"file:///{source}", **values)
        self.jobs[job] = self.teams[team]

    @precondition(lambda self: self.jobs)
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        job, team = list(self.jobs.items())[pick % len(self.jobs)]
        with contextlib.suppress(Conflict):  # it may be over already
            self.bench.database.run(lambda s: jobs.request_cancel(s, team, job))

    @precondition(lambda self: self.jobs)
    @rule(pick=PICKS)
    def retry(self, pick: int) -> None:
        job, team = list(self.jobs.items())[pick % len(self.jobs)]
        with contextlib.suppress(Conflict):  # it may not be over yet
            again = self.bench.database.run(partial(jobs.retry, team_id=team, job_id=job, plan_anew=planned_anew))
            self.jobs[again] = team

    # What workers do; with a lease that is lost they try all the same.

    def bind(self) -> None:
        control_loops.bind_all(self.bench.database, NEEDS)

    @rule(numbers=st.lists(st.integers(0, 3), min_size=1, max_size=6), is_busy=st.sampled_from([False, False, True]))
    def claim(self, numbers: list[int], is_busy: bool) -> None:
        self.bind()
        for number in numbers:
            self.claim_one(self.workers[number], is_busy=is_busy)

    def claim_one(self, worker: SimulatedWorker, *, is_busy: bool) -> None:
        claimed = worker.claim(replace(worker.room, memory_bytes=HALF) if is_busy else worker.room)
        if claimed is None:
            return
        assert worker.pool not in self.paused
        assert worker.id not in self.drained
        assert worker.room.fits(claimed.need)
        query = """
            SELECT e.team_id, count(*) FROM executions e JOIN executions mine ON mine.id = :id
            WHERE e.team_id = mine.team_id AND e.pool = mine.pool AND e.status = 'running' GROUP BY e.team_id
        """
        ((team, running),) = self.bench.rows(query, id=claimed.lease.execution_id)
        if worker.pool == "cpu":
            assert running <= self.limits.get(team, running)

    @rule(pick=PICKS, content=st.sampled_from("xyz"))
    def finish(self, pick: int, content: str) -> None:
        worker, claimed = self.some_claim(pick)
        worker.finish(claimed, content)

    def finish_all(self, number: int, content: str) -> None:
        for claimed in list(self.workers[number].claims):
            self.workers[number].finish(claimed, content)

    @rule(pick=PICKS, error=st.sampled_from(ERRORS))
    def fail(self, pick: int, error: FewbitsError) -> None:
        worker, claimed = self.some_claim(pick)
        worker.fail(claimed, error)

    @rule(pick=PICKS, content=st.sampled_from([None, "x", "k"]))
    def leave(self, pick: int, content: str | None) -> None:
        worker, claimed = self.some_claim(pick)
        worker.leave(claimed, content)

    @rule(pick=PICKS, content=st.sampled_from("xyz"))
    def go_on(self, pick: int, content: str) -> None:
        """Write what an attempt writes on its way, its last files among it; the commit is yet to come."""
        worker, claimed = self.some_claim(pick)
        worker.tell(claimed)
        worker.upload(claimed, content)

    @rule(pick=PICKS, content=st.sampled_from("xk"))
    def save(self, pick: int, content: str) -> None:
        """Keep a checkpoint on the way."""
        worker, claimed = self.some_claim(pick)
        worker.save(claimed, content)

    @rule(bits=st.integers(1, EVERYBODY))
    def beat(self, bits: int) -> None:
        for worker in alive(self.workers, bits):
            worker.beat()

    @rule(number=st.integers(0, 3))
    def crash(self, number: int) -> None:
        self.workers[number].crash()

    # What operators do.

    @rule(what=st.sampled_from(["pause", "drain", "limit"]), number=st.integers(0, 3), goes_on=st.booleans())
    def operate(self, what: str, number: int, goes_on: bool) -> None:
        if what == "pause":
            self.pause("cpu" if number % 2 else "gpu", goes_on=goes_on)
        elif what == "drain":
            self.drain(self.workers[number].id, goes_on=goes_on)
        else:
            self.limit(self.teams[number % 2], None if goes_on else number)

    def pause(self, pool: str, *, goes_on: bool) -> None:
        self.bench.database.run(partial(workers.resume if goes_on else workers.pause, pool=pool))
        self.paused = self.paused - {pool} if goes_on else self.paused | {pool}

    def drain(self, worker: str, *, goes_on: bool) -> None:
        self.bench.database.run(partial(workers.drain, worker_id=worker, claims_again=goes_on))
        self.drained = self.drained - {worker} if goes_on else self.drained | {worker}

    def limit(self, team: TeamId, maximum: int | None) -> None:
        self.bench.database.run(lambda s: quotas.set_quota(s, team, Quota.RUNNING_CPU, maximum))
        self.limits.pop(team, None)
        if maximum is not None:
            self.limits[team] = maximum

    def go_on_all(self) -> None:
        for pool in ("cpu", "gpu"):
            self.pause(pool, goes_on=True)
        for worker in self.workers:
            self.drain(worker.id, goes_on=True)
        for team in self.teams:
            self.limit(team, None)

    # What time and rescue do.

    @rule(seconds=st.sampled_from([1, 14, 31, 61, 601, 6 * 3600]))
    def wait(self, seconds: float) -> None:
        """Let time pass while nobody watches, nor renews."""
        self.clock.move(seconds)

    @rule(bits=st.integers(0, EVERYBODY), rounds=st.sampled_from([1, 4, 8]), is_rescued=st.booleans())
    def watch(self, bits: int, rounds: int, is_rescued: bool) -> None:
        """Let time pass while rescue watches; workers that have stalled renew nothing."""
        for _ in range(rounds):
            self.clock.move(WATCH_SECONDS)
            for worker in alive(self.workers, bits):
                worker.beat()
            self.bench.database.run(lambda s: watch.look(s, LEASE_SECONDS))
        if is_rescued:
            control_loops.rescue(self.bench.database, RETRY)

    @rule(pick=PICKS, is_rescued=st.booleans(), is_claimed_again=st.booleans(), verbs=VERBS)
    def stall(self, pick: int, is_rescued: bool, is_claimed_again: bool, verbs: list[str]) -> None:
        """Stop a worker past the end of its leases, and let it try everything when it comes back."""
        worker, claimed = self.some_claim(pick)
        self.watch(EVERYBODY - (1 << self.workers.index(worker)), 8, is_rescued)
        if is_claimed_again:
            self.clock.move(RETRY.backoff_seconds * 2**RETRY.attempts_max)
            self.claim([0, 1, 2, 3], is_busy=False)
        worker.tell(claimed)
        late = {
            "finish": partial(worker.finish, content="x"),
            "leave": partial(worker.leave, content="x"),
            "fail": partial(worker.fail, error=ChildCrashed("It ended.")),
        }
        for verb in verbs:
            late[verb](claimed)
        worker.beat()

    @rule(lost=st.sampled_from([None, "x", "y"]))
    def collect(self, lost: str | None) -> None:
        """Lose a blob that may be in use; collect all garbage, however young."""
        if lost is not None:
            self.bench.database.run(partial(artifacts.mark_lost, sha256=hashlib.sha256(lost.encode()).hexdigest()))
        control_loops.collect(self.bench.database)
        pinned = "SELECT count(*) FROM blob_intents WHERE execution_id = :id AND token = :token"
        for worker, claimed in self.claims():
            if worker.holds(claimed) and claimed.lease in worker.announced:
                lease = claimed.lease
                assert self.bench.value(pinned, id=lease.execution_id, token=lease.token) > 0

    # What must hold.

    @invariant()
    def rows_make_sense(self) -> None:
        assert nonsense(self.bench.database) == []

    @invariant()
    def nothing_final_has_changed(self) -> None:
        assert self.memory.look() == []

    def teardown(self) -> None:
        """Work everything off with workers that neither stall nor stop: every job must end."""
        self.go_on_all()
        for _ in range(100):
            if not self.bench.value("SELECT count(*) FROM jobs WHERE finished_at IS NULL"):
                break
            self.clock.move(RETRY.backoff_seconds * 2**RETRY.attempts_max)
            self.watch(EVERYBODY, 8, is_rescued=True)
            self.claim([0, 1, 2, 3, 0, 1], is_busy=False)
            for number in range(len(self.workers)):
                self.finish_all(number, "x")
            self.rows_make_sense()
        assert self.bench.value("SELECT count(*) FROM jobs WHERE finished_at IS NULL") == 0
        assert self.bench.value("SELECT count(*) FROM executions WHERE finished_at IS NULL") == 0
        assert self.memory.look() == []
        self.bench.execute(EMPTY)

    def some_claim(self, pick: int) -> tuple[SimulatedWorker, Claim]:
        """Return one of the claims; where there is none, have new work claimed first."""
        if not self.claims():
            self.go_on_all()
            self.submit(pick % 2, f"new {len(self.jobs)}")
            self.claim([0, 1, 2, 3], is_busy=False)
        if not self.claims():  # a worker that died was alone on the host
            self.clock.move(RETRY.backoff_seconds * 2**RETRY.attempts_max)
            self.watch(EVERYBODY, 8, is_rescued=True)
            self.claim([0, 1, 2, 3], is_busy=False)
        return self.claims()[pick % len(self.claims())]

    def claims(self) -> list[tuple[SimulatedWorker, Claim]]:
        return [(worker, claimed) for worker in self.workers for claimed in worker.claims]


def run(database: Database, *, examples: int, steps: int) -> None:
    clock, bench = ShiftedClock(database), Bench(database)
    other = bench.new_team("two")
    run_state_machine_as_test(
        partial(Machine, bench, other, clock),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_any_sequence_of_verbs_makes_sense(database: Database) -> None:
    run(database, examples=25, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_long_sequence_of_verbs_makes_sense(database: Database) -> None:
    run(database, examples=150, steps=80)
