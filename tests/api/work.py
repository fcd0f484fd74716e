"""What workers do to a job, by the verbs that they use."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from core.errors import FewbitsError, WorkerLost
from core.ids import WorkerId
from core.manifest import StoredFile
from core.steps import EvaluationRow
from db import artifacts, bind, claim, lease, logs, metrics, renewal, workers
from db.artifacts import NewArtifact
from db.bind import Work
from db.claim import Claim, Claimer
from db.ending import Mishap, Retry
from db.metrics import NewMetric
from db.renewal import Renewal
from db.room import UNMEASURED, Need, Peaks, Room
from db.session import Database
from db.states import POOLS
from db.tokens import Lease
from db.workers import Node
from pipeline.kinds import KINDS

ROOM = Room(memory_bytes=2**40, vram_bytes=None, scratch_bytes=2**40)
LEASE_SECONDS = 60.0
MODEL_FACTS = {"model": {"weight_bytes": 1000}}
WRITTEN_FACTS = {"size_bytes": 300, "bits_per_weight": 4.8, "tensor_types": {"q4_K": 36}}
TAKEN = Peaks(memory_bytes=5 * 10**9, vram_bytes=None, scratch_bytes=2 * 10**9)
CHECKS = [{"name": "tensors", "passed": True, "detail": "36 of 75 tensors"}]
CALIBRATION = {
    "text": "own",
    "text_sha256": "1" * 64,
    "samples": 128,
    "tokens": 512,
    "sha256": "2" * 64,
    "unknown_share": 0.004,
    "overlap": {"prose": 0.031},
    "warnings": ["3.1% of the text 'prose' is in the calibration text, too."],
}
ROLES = {"fetch": "snapshot", "convert": "intermediate", "quantize": "result", "document": "result"}


def register(database: Database, pool: str, room: Room = ROOM) -> WorkerId:
    """Have a worker be there that has so much room."""
    return database.run(partial(workers.register, node=Node(pool, "test", 1, "cpu", 1, room)))


def register_one_a_pool(database: Database) -> None:
    """Have workers be there for all work: what none could run is refused."""
    for pool in POOLS:
        register(database, pool)


class Workers:
    """A worker for each pool, which do nothing unless told to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids = {pool: register(database, pool) for pool in POOLS}
        self._written: Counter[tuple[str, Lease]] = Counter()

    def bind(self) -> None:
        """Bind what is ready."""
        for step in self._database.run(partial(bind.unbound_steps, after="", limit=100)):
            key = hashlib.sha256(step.id.encode()).hexdigest()
            need = Need(1, 0, 1)
            known = KINDS[step.kind]
            work = Work(key, step.params, {}, need, known.is_external, known.is_exclusive)
            self._database.run(partial(bind.bind, step=step, work=work))

    def start(self, kind: str) -> Claim:
        """Bind what is ready, and claim the next step of a pool, which must be of this kind."""
        self.bind()
        taken = self.claim("gpu" if kind == "reference" else "cpu")
        assert taken is not None
        assert taken.kind == kind
        return taken

    def claim(self, pool: str) -> Claim | None:
        """Claim the next step of a pool, of those that are bound."""
        claimer = Claimer(self._ids[pool], pool, "test", "cpu", ROOM, ROOM)
        return self._database.run(partial(claim.claim, claimer=claimer, lease_seconds=LEASE_SECONDS))

    def stop(self, taken: Claim) -> None:
        """Say that the child of a job that was cancelled has ended."""
        self._database.run(lambda session: lease.stopped(session, taken.lease))

    def progress(self, taken: Claim, done: int) -> None:
        news = {"done": done, "total": 10, "unit": "tensors", "message": "working", "seconds_left": 12.5}
        renewals = [Renewal(taken.lease, news)]
        self._database.run(lambda session: renewal.renew(session, self._ids["cpu"], renewals, LEASE_SECONDS, None))

    def log(self, taken: Claim, text: str) -> None:
        at = self._after("log", taken, len(text.encode()))
        self._database.run(lambda session: logs.append(session, taken.lease, taken.attempt, text, at))

    def measure(self, taken: Claim, *measured: NewMetric) -> None:
        first = self._after("metrics", taken, len(measured))
        self._database.run(lambda session: metrics.append(session, taken.lease, taken.attempt, measured, first))

    def _after(self, what: str, taken: Claim, more: int) -> int:
        """Return how much an attempt has written before, and count more."""
        before = self._written[what, taken.lease]
        self._written[what, taken.lease] += more
        return before

    def fail(self, taken: Claim, error: FewbitsError, *, attempts_max: int = 1, peaks: Peaks = UNMEASURED) -> None:
        retry = Retry(attempts_max=attempts_max, backoff_seconds=0)
        mishap = Mishap(error.document(), peaks=peaks)
        self._database.run(lambda session: lease.fail(session, taken.lease, mishap, retry))

    def lose(self, taken: Claim, *, attempts_max: int = 1) -> None:
        """Have the worker of a claim die."""
        mishap = Mishap(WorkerLost("The worker that ran the step has died.").document(), is_death=True)
        retry = Retry(attempts_max=attempts_max, backoff_seconds=0)
        self._database.run(lambda session: lease.fail(session, taken.lease, mishap, retry))

    def release(self, taken: Claim, peaks: Peaks = UNMEASURED) -> None:
        self._database.run(lambda session: lease.release(session, taken.lease, peaks))

    def finish(
        self,
        taken: Claim,
        facts: Mapping[str, Any] | None = None,
        *,
        files: Sequence[StoredFile] = (),
        perplexity: Mapping[str, float] | None = None,
        measures: Mapping[str, Mapping[str, float | None]] | None = None,
    ) -> None:
        written = "documents" if taken.kind == "document" else "gguf"
        artifact = NewArtifact(ROLES[taken.kind], written, "d" * 64, tuple(files)) if files else None
        rows = [
            EvaluationRow(domain, value, 2, 510, [1.0, 2.0], measures) for domain, value in (perplexity or {}).items()
        ]

        def commit(session: Session) -> None:
            artifacts.intend(session, taken.lease, {file.sha256: file.size_bytes for file in files})
            lease.finish(session, taken.lease, lease.Result(facts or {}, artifact, rows))

        self._database.run(commit)

    def do(self, kind: str, facts: Mapping[str, Any] | None = None, **left: Any) -> None:
        self.finish(self.start(kind), facts, **left)

    def do_all(
        self,
        files: Sequence[StoredFile] = (),
        decided: Mapping[str, Any] | None = None,
        measures: Mapping[str, Mapping[str, float | None]] | None = None,
    ) -> None:
        """Bring the one job that there is to its end: what its gate decided, and what was lost in each text."""
        self.do("fetch", MODEL_FACTS)
        self.do("convert")
        self.do("quantize", WRITTEN_FACTS, files=files)
        self.do("reference", perplexity={"prose": 23.7, "code": 7.5})
        self.do("verify", {"checks": CHECKS})
        self.do("evaluate", decided, perplexity={"prose": 24.4, "code": 7.7}, measures=measures)
        self.do("document")
