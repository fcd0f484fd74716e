"""Any sequence of what users, workers and rescue may do leaves rows that make sense, and every job ends."""

import contextlib
import random
from functools import partial
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from core.errors import Conflict, DoesNotFit, FewbitsError, SourceInvalid, WorkerLost
from core.ids import JobId
from db import expiry
from db.claim import Claim
from db.renewal import LeaseState
from db.session import Database
from db.tokens import LeaseLost
from tests.db.conftest import CHAIN, LEASE_SECONDS, Bench
from tests.db.sense import nonsense

ERRORS: list[FewbitsError] = [SourceInvalid("wrong"), WorkerLost("lost"), DoesNotFit("large")]


class Machine(RuleBasedStateMachine):
    """Few sources and two teams, so that jobs meet on executions."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.jobs: list[JobId] = []
        self.claims: list[Claim] = []

    @rule(source=st.sampled_from("ab"), priority=st.integers(-2, 2))
    def submit(self, source: str, priority: int) -> None:
        self.jobs.append(self.bench.submit(steps=CHAIN, source=f"file:///{source}", priority=priority))

    @rule()
    def bind(self) -> None:
        self.bench.bind_all()

    @rule(pool=st.sampled_from(["cpu", "gpu"]), expired=st.booleans())
    def claim(self, pool: str, expired: bool) -> None:
        if claimed := self.bench.claim(pool, lease_seconds=1e-6 if expired else LEASE_SECONDS):
            self.claims.append(claimed)

    @precondition(lambda self: self.claims)
    @rule(pick=st.randoms(use_true_random=False))
    def finish(self, pick: random.Random) -> None:
        self.hold(pick, self.bench.finish)

    @precondition(lambda self: self.claims)
    @rule(pick=st.randoms(use_true_random=False), error=st.sampled_from(ERRORS))
    def fail(self, pick: random.Random, error: FewbitsError) -> None:
        self.hold(pick, partial(self.bench.fail, error=error))

    @precondition(lambda self: self.claims)
    @rule(pick=st.randoms(use_true_random=False))
    def leave(self, pick: random.Random) -> None:
        self.hold(pick, self.bench.release)

    @precondition(lambda self: self.claims)
    @rule(pick=st.randoms(use_true_random=False))
    def beat(self, pick: random.Random) -> None:
        claimed = pick.choice(self.claims)
        state = self.bench.renew(claimed)
        if state is LeaseState.STOP:
            self.bench.stopped(claimed)
        if state is not LeaseState.HELD:
            self.claims.remove(claimed)

    @precondition(lambda self: self.jobs)
    @rule(pick=st.randoms(use_true_random=False))
    def cancel(self, pick: random.Random) -> None:
        with contextlib.suppress(Conflict):  # it may be over already
            self.bench.cancel(pick.choice(self.jobs))

    @rule()
    def watch(self) -> None:
        self.rescue()

    @invariant()
    def rows_make_sense(self) -> None:
        assert nonsense(self.bench.database) == []

    def teardown(self) -> None:
        """Work everything off: every job must end."""
        while self.claims:
            self.hold(random.Random(0), self.bench.finish)  # noqa: S311
        while self.bench.work_off() + self.rescue():
            pass
        for job_id in self.jobs:
            assert self.bench.status(job_id) in ("succeeded", "failed", "cancelled")
        with self.bench.database.transaction() as session:
            session.execute(text("TRUNCATE jobs, executions, blobs, rescue_watch CASCADE"))

    def rescue(self) -> int:
        self.bench.watch()
        return sum(map(self.bench.expire, self.bench.database.run(expiry.expired)))

    def hold(self, pick: random.Random, act: Any) -> None:
        """Do something with one of the claims, which may have been lost."""
        claimed = pick.choice(self.claims)
        self.claims.remove(claimed)
        with contextlib.suppress(LeaseLost):
            act(claimed)


def test_any_sequence_of_verbs_makes_sense(database: Database) -> None:
    bench = Bench(database)
    run_state_machine_as_test(
        partial(Machine, bench),  # type: ignore[arg-type]
        settings=settings(
            max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
