"""Many at once on the same executions: no deadlock is left to a user, and the rows make sense afterwards."""

import contextlib
import random
from collections.abc import Callable
from functools import partial

from core.errors import Conflict, SourceInvalid, WorkerLost
from core.ids import JobId
from db import bind, quotas, workers
from db.claim import Claim
from db.jobs import PlannedStep
from db.renewal import LeaseState, Renewal, renew
from db.states import Quota
from db.tokens import LeaseLost
from tests.db import control_loops
from tests.db.at_once import deadlocks, together
from tests.db.conftest import CHAIN, LEASE_SECONDS, RETRY, Bench
from tests.db.sense import nonsense

ROUNDS = 60
WORKERS = 3
CLAIMERS = 8
ONE_STEP = CHAIN[:1]


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
