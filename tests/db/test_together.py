"""Many at once on the same executions: no deadlock is left to a user, and the rows make sense afterwards."""

import contextlib
import random
import threading
from collections.abc import Callable
from functools import partial

from core.errors import Conflict, SourceInvalid, WorkerLost
from core.ids import JobId
from db import bind
from db.claim import Claim
from db.renewal import LeaseState
from db.tokens import LeaseLost
from tests.db.conftest import CHAIN, Bench
from tests.db.sense import nonsense

ROUNDS = 60
WORKERS = 3


class Crowd:
    """Users, workers and a binder that meet on few sources. Chance comes from how the threads interleave, too."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.jobs: list[JobId] = []
        self.failures: list[BaseException] = []
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
        claimed = self.bench.claim(self.dice.choice(["cpu", "gpu"]))
        if claimed is not None:
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
        elif self.bench.renew(claimed) is LeaseState.STOP:
            self.bench.stopped(claimed)
        else:
            self.bench.finish(claimed)

    def repeat(self, act: Callable[[], None]) -> None:
        try:
            for _ in range(ROUNDS):
                act()
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
            self.failures.append(error)


def test_verbs_that_meet_leave_sense(bench: Bench) -> None:
    crowd = Crowd(bench)
    acts = [crowd.submit, crowd.cancel, crowd.refuse, *[crowd.work] * WORKERS]
    threads = [threading.Thread(target=crowd.repeat, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crowd.failures == []
    assert nonsense(bench.database) == []
    bench.work_off()
    assert {bench.status(job) for job in crowd.jobs} <= {"succeeded", "failed", "cancelled"}
