"""Simulated workers: each holds claims, which it may forget as a crash does, or keep for too long as a stall does."""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.orm import Session

from core.errors import FewbitsError
from core.ids import WorkerId
from core.manifest import StoredFile, manifest_digest
from db import logs, metrics
from db.artifacts import NewArtifact, intend
from db.claim import Claim
from db.ending import Mishap, Retry
from db.lease import Result, fail, finish, keep, release, stopped
from db.metrics import NewMetric
from db.renewal import LeaseState, Renewal, renew
from db.room import Room
from db.tokens import Lease, LeaseLost
from tests.db.conftest import LEASE_SECONDS, ROOM, Bench
from tests.db.memory import Memory

_HELD = """
    SELECT EXISTS (SELECT FROM executions WHERE id = :id AND token = :token AND status = 'running'
    AND (lease_expires_at >= clock_timestamp() OR NOT EXISTS (SELECT FROM rescue_watch
        WHERE looked_at > clock_timestamp() - make_interval(secs => lease_seconds / 2)
        AND unbroken_since < clock_timestamp() - make_interval(secs => lease_seconds))))
"""


@dataclass
class SimulatedWorker:
    """A worker of one pool, and what it believes to hold.

    Attributes:
        bench: where it works.
        memory: knows whether anything was changed.
        pool: which it claims from.
        retry: what it asks for when work fails.
        room: what it has.
    """

    bench: Bench
    memory: Memory
    pool: str
    retry: Retry
    room: Room = ROOM
    claims: list[Claim] = field(default_factory=list)
    announced: set[Lease] = field(default_factory=set)  # leases under which an upload was announced
    id: WorkerId = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.id = self.bench.new_worker(self.pool, slots=4, capacity=self.room)

    def claim(self, room: Room) -> Claim | None:
        """Claim what fits into what is free."""
        claimed = self.bench.claim(self.pool, worker_id=self.id, room=room, capacity=self.room)
        if claimed is not None:
            self.claims.append(claimed)
        return claimed

    def beat(self) -> None:
        """Renew everything at once, and do what the answer says."""
        claims = list(self.claims)
        renewals = [Renewal(one.lease, {"done": 1}) for one in claims]
        holds = [self.holds(one) for one in claims]
        told = self.bench.database.run(lambda s: renew(s, self.id, renewals, LEASE_SECONDS, None))
        for claimed, held, renewed in zip(claims, holds, told, strict=True):
            assert held == (renewed.state is not LeaseState.LOST)
            assert held == renewed.is_written
            if renewed.state is LeaseState.STOP:
                self.act(claimed, partial(stopped, lease=claimed.lease))
            if renewed.state is LeaseState.LOST:
                self.claims.remove(claimed)

    def crash(self) -> None:
        """Die, and start anew: what was held is forgotten, by this worker alone."""
        self.claims.clear()
        self.start()

    def upload(self, claimed: Claim, content: str) -> StoredFile | None:
        """Announce a file, and have it in the store; None where the lease is lost."""
        file = StoredFile("file", hashlib.sha256(content.encode()).hexdigest(), 1)
        if not self.write(claimed, lambda s: intend(s, claimed.lease, {file.sha256: 1})):
            return None
        self.announced.add(claimed.lease)
        return file

    def finish(self, claimed: Claim, content: str) -> None:
        if file := self.upload(claimed, content):
            artifact = NewArtifact("intermediate", "gguf", manifest_digest([file]), (file,))
            self.act(claimed, lambda s: finish(s, claimed.lease, Result({"content": content}, artifact)))

    def fail(self, claimed: Claim, error: FewbitsError) -> None:
        self.act(claimed, lambda s: fail(s, claimed.lease, Mishap(error.document()), self.retry))

    def leave(self, claimed: Claim, content: str | None) -> None:
        """Give work back, with a checkpoint where there is content."""
        if content is not None:
            self.save(claimed, content)
        self.act(claimed, lambda s: release(s, claimed.lease))

    def save(self, claimed: Claim, content: str) -> None:
        """Keep a checkpoint while the work goes on."""
        if file := self.upload(claimed, content):
            self.write(claimed, lambda s: keep(s, claimed.lease, [file]))

    def tell(self, claimed: Claim) -> None:
        """Write what an attempt writes on its way."""
        self.write(claimed, lambda s: logs.append(s, claimed.lease, claimed.attempt, "text", 0))
        measured = [NewMetric(0, "m", {"loss": 1})]
        self.write(claimed, lambda s: metrics.append(s, claimed.lease, claimed.attempt, measured, 0))

    def act(self, claimed: Claim, verb: Callable[[Session], None]) -> None:
        """Do what ends a claim."""
        self.write(claimed, verb)
        with contextlib.suppress(ValueError):
            self.claims.remove(claimed)

    def write(self, claimed: Claim, verb: Callable[[Session], None]) -> bool:
        """Write under a lease; return whether it was held. Without it, nothing may have been changed."""
        held = self.holds(claimed)
        before = None if held else self.memory.everything()
        try:
            self.bench.database.run(verb)
        except LeaseLost:
            assert not held, "a lease that is held counts as lost"
            assert self.memory.everything() == before, "without a lease something was changed"
            return False
        assert held, "without a lease something was written"
        return True

    def holds(self, claimed: Claim) -> bool:
        lease = claimed.lease
        return bool(self.bench.value(_HELD, id=lease.execution_id, token=lease.token))


def alive(workers: Sequence[SimulatedWorker], bits: int) -> list[SimulatedWorker]:
    """Return the workers whose bit is set; the others have stalled."""
    return [worker for number, worker in enumerate(workers) if bits >> number & 1]
