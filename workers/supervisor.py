"""Runs one claimed execution from its inputs to its commit. Loads no engine: the work is in a child."""

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from core.errors import ErrorDocument, FewbitsError, os_error
from core.logging import log
from db import artifacts
from db import lease as leases
from db.claim import Claim
from db.lease import LeaseLost, LeaseState, Result, Retry
from db.session import Database
from pipeline.kinds import KINDS
from pipeline.step_kind import Outcome
from store.port import BlobStore
from workers.heartbeat import Heartbeat
from workers.log_writer import LogWriter
from workers.process import Child
from workers.protocol import SCRATCH_FULL, ChildSpec
from workers.uploader import upload

T = TypeVar("T")

RECONNECT_SECONDS = 1.0


@dataclass(frozen=True)
class Workplace:
    """What every child of a worker shares.

    Attributes:
        database: where claims come from and results go.
        store: where blobs are.
        folder: the worker's own folder on the scratch disk.
        lease_seconds: how long a lease lasts unless it is renewed.
        retry: how often failed work is tried.
        threads: CPU threads of a child.
        source_roots: folders that a fetch may read.
        method_modules: modules that register further methods.
        closing: set when the worker must leave: children are ended and their executions given back.
    """

    database: Database
    store: BlobStore
    folder: Path
    lease_seconds: float
    retry: Retry
    threads: int
    source_roots: tuple[Path, ...]
    method_modules: tuple[str, ...]
    closing: threading.Event


def supervise(workplace: Workplace, claim: Claim, device: str) -> None:
    """Do the work of a claim and commit what came of it; never raises over the work itself."""
    lease = claim.lease
    folder = workplace.folder / f"{lease.execution_id}-{lease.token}"
    with bound_contextvars(execution=lease.execution_id, kind=claim.kind, attempt=claim.attempt):
        log.info("execution started", device=device)
        try:
            _Run(workplace, claim, device, folder).run()
        except LeaseLost:
            log.warning("the lease was lost; another worker has the execution")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        log.info("execution ended")


class _Run:
    """One claim being worked on."""

    def __init__(self, workplace: Workplace, claim: Claim, device: str, folder: Path) -> None:
        self._at = workplace
        self._claim = claim
        self._device = device
        self._folder = folder
        self._child: Child | None = None

    def run(self) -> None:
        with Heartbeat(self._at.database, self._claim.lease, self._at.lease_seconds, self._kill) as heartbeat:
            try:
                result = self._work(heartbeat)
            except FewbitsError as error:
                result = error.document()
            except OSError as error:
                result = os_error(error, "The step could not be prepared", full=SCRATCH_FULL).document()
            self._settle(heartbeat, result)

    def _work(self, heartbeat: Heartbeat) -> Result | ErrorDocument:
        spec = self._prepare()
        writer = LogWriter(self._at.database, spec.log, self._claim.lease.execution_id, self._claim.attempt)

        def tick() -> None:
            writer.copy()
            if self._at.closing.is_set() or heartbeat.state is not LeaseState.HELD:
                self._kill()

        with Child(spec, heartbeat.report) as self._child:
            outcome = self._child.wait(tick)
        writer.copy(final=True)
        if not isinstance(outcome, Outcome):
            return outcome
        output = KINDS[self._claim.kind].output(self._claim.params)
        if output is None:
            return Result(outcome.facts, evaluations=outcome.evaluations)
        artifact = upload(self._at.database, self._at.store, self._claim.lease, spec.output, output)
        return Result(outcome.facts, artifact, outcome.evaluations)

    def _settle(self, heartbeat: Heartbeat, result: Result | ErrorDocument) -> None:
        lease = self._claim.lease
        if heartbeat.state is LeaseState.LOST:
            raise LeaseLost
        if heartbeat.state is LeaseState.STOP:
            self._commit(heartbeat, lambda s: leases.stopped(s, lease))
        elif isinstance(result, Result):
            self._commit(heartbeat, lambda s: leases.finish(s, lease, result))
        elif self._at.closing.is_set():
            self._commit(heartbeat, lambda s: leases.release(s, lease))
        else:
            log.warning("attempt failed", error=result)
            self._commit(heartbeat, lambda s: leases.fail(s, lease, result, self._at.retry))

    def _commit(self, heartbeat: Heartbeat, verb: Callable[[Session], T]) -> T:
        """Run the last transaction, again and again while Postgres is away and nobody has taken the lease."""
        while True:
            try:
                return self._at.database.run(verb)
            except OperationalError as error:
                log.warning("the result cannot be committed yet", error=str(error))
                if heartbeat.state is LeaseState.LOST or self._at.closing.wait(RECONNECT_SECONDS):
                    raise LeaseLost from error

    def _prepare(self) -> ChildSpec:
        spec = ChildSpec(
            kind=self._claim.kind,
            params=self._claim.params,
            inputs={kind: str(self._folder / "inputs" / kind) for kind in self._claim.inputs},
            folder=str(self._folder),
            threads=self._at.threads,
            device=self._device,
            source_roots=[str(root) for root in self._at.source_roots],
            method_modules=self._at.method_modules,
        )
        spec.output.mkdir(parents=True)
        spec.scratch.mkdir()
        ids = list(self._claim.inputs.values())
        files = self._at.database.run(lambda session: artifacts.files_of(session, ids))
        for kind, artifact_id in self._claim.inputs.items():
            for file in files[artifact_id]:
                path = Path(spec.inputs[kind], file.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(self._at.store.materialize(file.sha256))
        return spec

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
