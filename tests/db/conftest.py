"""Jobs made by hand, so that the verbs can be tested without the pipeline above them."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from core.errors import FewbitsError
from core.ids import JobId, TeamId, WorkerId
from core.manifest import StoredFile, manifest_digest
from core.steps import UnboundStep
from db import bind, deadlines, expiry, jobs, keys, workers
from db.artifacts import NewArtifact, intend
from db.bind import Binding, Work
from db.claim import Claim, Claimer, claim
from db.ending import Mishap, Retry
from db.jobs import NewJob, PlannedStep
from db.lease import Result, fail, finish, keep, release, stopped
from db.renewal import LeaseState, Renewal, renew
from db.room import UNMEASURED, Need, Peaks, Room
from db.session import Database
from db.shown import ShownJob
from db.workers import Node
from tests.db.shifted_clock import ShiftedClock

ROOM = Room(memory_bytes=10**12, vram_bytes=None, scratch_bytes=10**12)
NEED = Need(memory_bytes=1, vram_bytes=0, scratch_bytes=1)
RETRY = Retry(attempts_max=3, backoff_seconds=0)
LEASE_SECONDS = 30.0

CHAIN = (
    PlannedStep("fetch", "cpu", (), {}),
    PlannedStep("quantize", "cpu", ("fetch",), {}),
    PlannedStep("reference", "gpu", ("fetch",), {}),
    PlannedStep("evaluate", "cpu", ("fetch", "quantize"), {}),
)
PUBLISH = (PlannedStep("publish", "cpu", (), {}),)


def new_job(*, steps: tuple[PlannedStep, ...] = CHAIN[:2], source: str = "file:///m", **values: Any) -> NewJob:
    usual = NewJob(
        source=source,
        method="gguf",
        recipe={"method": "gguf", "type": "Q8_0"},
        evaluation={},
        metadata={},
        priority=0,
        max_runtime_seconds=None,
        max_pending_seconds=None,
        steps=steps,
    )
    return replace(usual, **values)


class Bench:
    """A database and the few things that tests do with it over and over."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.team = self.new_team("one")
        self.worker = self.new_worker("cpu")
        self.gpu_worker = self.new_worker("gpu")

    def new_team(self, name: str) -> TeamId:
        _, key = self.database.run(lambda s: keys.create_key(s, name, ""))
        return self.database.run(lambda s: keys.authenticate(s, key))

    def new_worker(self, pool: str, slots: int = 1, capacity: Room = ROOM, host: str = "here") -> WorkerId:
        node = Node(pool=pool, host=host, pid=1, device="cpu", slots=slots, capacity=capacity)
        return self.database.run(lambda s: workers.register(s, node))

    def submit(self, team: TeamId | None = None, **values: Any) -> JobId:
        return self.database.run(lambda s: jobs.submit(s, team or self.team, new_job(**values)))

    def bind_all(self, key_of: Callable[[UnboundStep], str] | None = None, need: Need = NEED) -> list[Binding]:
        """Bind every ready step; by default steps of one kind, team and source share a key."""
        key_of = key_of or (lambda step: f"{step.team_id} {step.kind} {step.source}")
        bindings: list[Binding] = []
        while unbound := self.database.run(lambda s: bind.unbound_steps(s, "", 100)):
            for step in unbound:
                key = hashlib.sha256(key_of(step).encode()).hexdigest()
                alone, external = step.kind == "benchmark", step.kind == "publish"
                work = Work(key, params={}, inputs={}, need=need, is_external=external, is_exclusive=alone)
                bindings.append(self.database.run(partial(bind.bind, step=step, work=work)))
            if Binding.POSTPONED in bindings:
                break
        return bindings

    def claimer(self, pool: str = "cpu", **values: Any) -> Claimer:
        worker = self.worker if pool == "cpu" else self.gpu_worker
        known: dict[str, Any] = {"room": ROOM, "capacity": ROOM, "worker_id": worker, "host": "here", "device": "cpu"}
        return Claimer(pool=pool, **{**known, **values})

    def claim(self, pool: str = "cpu", lease_seconds: float = LEASE_SECONDS, **values: Any) -> Claim | None:
        claimer = self.claimer(pool, **values)
        return self.database.run(lambda s: claim(s, claimer, lease_seconds))

    def must_claim(self, pool: str = "cpu", lease_seconds: float = LEASE_SECONDS, **values: Any) -> Claim:
        claimed = self.claim(pool, lease_seconds, **values)
        assert claimed is not None
        return claimed

    def finish(self, claimed: Claim, content: str = "x") -> None:
        file = StoredFile("file", hashlib.sha256(content.encode()).hexdigest(), 1)
        artifact = NewArtifact("intermediate", "gguf", manifest_digest([file]), (file,))
        self.database.run(lambda s: intend(s, claimed.lease, {file.sha256: 1}))
        self.database.run(lambda s: finish(s, claimed.lease, Result({}, artifact)))

    def fail(self, claimed: Claim, error: FewbitsError, retry: Retry = RETRY, peaks: Peaks = UNMEASURED) -> None:
        self.database.run(lambda s: fail(s, claimed.lease, Mishap(error.document(), peaks=peaks), retry))

    def renew(self, claimed: Claim) -> LeaseState:
        renewal = Renewal(claimed.lease, {"done": 1})
        (renewed,) = self.database.run(lambda s: renew(s, self.worker, [renewal], LEASE_SECONDS, None))
        return renewed.state

    def watch(self) -> None:
        """Let rescue have watched for long: a lease that has run out is over."""
        self.execute("""
            INSERT INTO rescue_watch VALUES (1, 1000, clock_timestamp() - interval '1 day', clock_timestamp())
            ON CONFLICT (id) DO UPDATE SET lease_seconds = excluded.lease_seconds,
                unbroken_since = excluded.unbroken_since, looked_at = excluded.looked_at
        """)

    def stopped(self, claimed: Claim) -> None:
        self.database.run(lambda s: stopped(s, claimed.lease))

    def release(self, claimed: Claim, checkpoint: tuple[StoredFile, ...] = ()) -> None:
        if checkpoint:
            self.keep(claimed, checkpoint)
        self.database.run(lambda s: release(s, claimed.lease))

    def keep(self, claimed: Claim, checkpoint: tuple[StoredFile, ...]) -> None:
        self.database.run(lambda s: intend(s, claimed.lease, {file.sha256: file.size_bytes for file in checkpoint}))
        self.database.run(lambda s: keep(s, claimed.lease, checkpoint))

    def expire(self, execution_id: str, retry: Retry = RETRY) -> bool:
        return self.database.run(lambda s: expiry.expire(s, execution_id, retry))

    def lose(self, claimed: Claim, retry: Retry = RETRY) -> None:
        """Let the worker of a claim die: its lease runs out, and is taken from it."""
        self.watch()
        execution_id = claimed.lease.execution_id
        past = "clock_timestamp() - interval '1 s'"
        self.execute(f"UPDATE executions SET lease_expires_at = {past} WHERE id = :id", id=execution_id)  # noqa: S608
        assert self.expire(execution_id, retry)

    def expire_job(self, job_id: str) -> bool:
        return self.database.run(lambda s: deadlines.expire(s, job_id))

    def work_off(self) -> int:
        """Bind, claim and finish until nothing is left; return how many executions were run."""
        count = 0
        while True:
            self.bind_all()
            claimed = self.claim() or self.claim("gpu")
            if claimed is None:
                return count
            self.finish(claimed)
            count += 1

    def job(self, job_id: JobId, team: TeamId | None = None) -> ShownJob:
        return self.database.run(lambda s: jobs.get(s, team or self.team, job_id))

    def status(self, job_id: JobId) -> str:
        return self.job(job_id).status

    def steps(self, job_id: JobId) -> dict[str, str]:
        return {step.kind: step.status for step in self.job(job_id).steps}

    def cancel(self, job_id: JobId) -> None:
        self.database.run(lambda s: jobs.request_cancel(s, self.team, job_id))

    def rows(self, query: str, **values: Any) -> list[Any]:
        with self.database.transaction() as session:
            return list(session.execute(text(query), values).all())

    def value(self, query: str, **values: Any) -> Any:
        """Return the one value that a query returns."""
        ((value,),) = self.rows(query, **values)
        return value

    def execute(self, statement: str, **values: Any) -> None:
        """Make something so that no verb makes so."""
        with self.database.transaction() as session:
            session.execute(text(statement), values)


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


@pytest.fixture
def clock(database: Database) -> ShiftedClock:
    """The clock of the test's database."""
    return ShiftedClock(database)
