"""Runs one claimed execution from its inputs to its commit. Loads no engine: the work is in a child."""

import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from core.errors import BlobLost, ChildCrashed, ErrorDocument, FewbitsError, VerificationFailed, os_error
from core.logging import log
from core.manifest import StoredFile
from db import artifacts
from db import lease as leases
from db.claim import Claim
from db.lease import LeaseState, Result, Retry
from db.session import Database
from db.tokens import LeaseLost
from pipeline.kinds import KINDS
from pipeline.step_kind import Outcome
from pipeline.verify import VERIFIED
from store.port import BlobStore
from workers.lease_keeper import Interrupted, LeaseKeeper
from workers.log_writer import LogWriter
from workers.metric_writer import MetricWriter
from workers.process import Child
from workers.protocol import SCRATCH_FULL, ChildSpec
from workers.scratch import execution_folder
from workers.uploader import upload


@dataclass(frozen=True)
class Workplace:
    """What every child of a worker shares.

    Attributes:
        database: where claims come from and results go.
        store: where blobs are.
        folder: the worker's own folder on the scratch disk.
        scratch_bytes_max: what of that disk the worker may fill; None for all that is free.
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
    scratch_bytes_max: int | None
    lease_seconds: float
    retry: Retry
    threads: int
    source_roots: tuple[Path, ...]
    method_modules: tuple[str, ...]
    closing: threading.Event


def supervise(workplace: Workplace, claim: Claim, device: str) -> None:
    """Do the work of a claim and commit what came of it; never raises over the work itself."""
    lease = claim.lease
    folder = execution_folder(workplace.folder, lease)
    with bound_contextvars(execution=lease.execution_id, kind=claim.kind, attempt=claim.attempt):
        log.info("execution started", device=device)
        try:
            _Run(workplace, claim, device, folder).run()
        except LeaseLost:
            log.warning("the lease was lost, or Postgres was away when the worker had to leave; nothing was written")
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

    def run(self) -> None:
        with LeaseKeeper(self._at.database, self._claim.lease, self._at.lease_seconds, self._at.closing) as keeper:
            result = self._attempt(keeper)
            try:
                self._settle(keeper, result)
            except SQLAlchemyError as error:
                log.exception("the result cannot be written down")
                kind = type(error).__name__  # its text holds what cannot be kept
                self._settle(keeper, ChildCrashed(f"The step's result cannot be kept ({kind}).").document())

    def _attempt(self, keeper: LeaseKeeper) -> Result | ErrorDocument | None:
        """Return what the work came to; None where it was broken off."""
        try:
            return self._work(keeper)
        except Interrupted:
            return None
        except BlobLost as error:
            sha256 = error.sha256
            keeper.persist(lambda session: artifacts.mark_lost(session, sha256))
            return error.document()
        except FewbitsError as error:
            return error.document()
        except OSError as error:
            return os_error(error, "The step could not be prepared", full=SCRATCH_FULL).document()

    def _work(self, keeper: LeaseKeeper) -> Result | ErrorDocument | None:
        def check() -> None:
            keeper.check()
            if self._at.closing.is_set():
                raise Interrupted

        inputs = self._inputs(keeper)
        blobs = {file.sha256: file.size_bytes for files in inputs.values() for file in files}
        with self._at.store.materialized(blobs, check) as paths:
            spec = self._prepare(inputs, paths)
            writer = LogWriter(self._at.database, keeper, spec.log, self._claim)
            metrics = MetricWriter(self._at.database, keeper, self._claim)
            with Child(spec, keeper.report, metrics.add) as child:

                def tick() -> None:
                    writer.copy()
                    metrics.write()
                    check()

                outcome = child.wait(tick)
            writer.finish()
            metrics.finish()
        if not isinstance(outcome, Outcome):
            return outcome
        output = KINDS[self._claim.kind].output(self._claim.params)
        artifact = None if output is None else upload(keeper, self._at.store, self._claim.lease, spec.output, output)
        return Result(outcome.facts, artifact, outcome.evaluations, outcome.warnings)

    def _settle(self, keeper: LeaseKeeper, result: Result | ErrorDocument | None) -> None:
        lease = self._claim.lease
        if keeper.state is LeaseState.LOST:
            raise LeaseLost
        if keeper.state is LeaseState.STOP:
            keeper.persist(lambda s: leases.stopped(s, lease))
        elif isinstance(result, Result):
            keeper.persist(lambda s: leases.finish(s, lease, result))
        elif result is None:
            keeper.persist(lambda s: leases.release(s, lease))
        else:
            log.warning("attempt failed", error=result)
            keeper.persist(lambda s: self._fail(s, result))

    def _fail(self, session: Session, error: ErrorDocument) -> None:
        """Note the failure, and that the result which did not pass is not to be used again; both or neither."""
        if error["code"] == VerificationFailed.code:
            artifacts.reject(session, self._claim.inputs[VERIFIED])
        leases.fail(session, self._claim.lease, error, self._at.retry)

    def _inputs(self, keeper: LeaseKeeper) -> Mapping[str, Sequence[StoredFile]]:
        """Return the files of each input, by the kind of the step that made it."""
        ids = list(self._claim.inputs.values())
        files = keeper.persist(lambda session: artifacts.files_of(session, ids))
        return {kind: files[artifact_id] for kind, artifact_id in self._claim.inputs.items()}

    def _prepare(self, inputs: Mapping[str, Sequence[StoredFile]], paths: Mapping[str, Path]) -> ChildSpec:
        """Make the execution's folder, with links to its inputs."""
        spec = ChildSpec(
            kind=self._claim.kind,
            params=self._claim.params,
            inputs={kind: str(self._folder / "inputs" / kind) for kind in inputs},
            folder=str(self._folder),
            threads=self._at.threads,
            device=self._device,
            source_roots=[str(root) for root in self._at.source_roots],
            method_modules=self._at.method_modules,
        )
        spec.output.mkdir(parents=True)
        spec.scratch.mkdir()
        for kind, files in inputs.items():
            for file in files:
                path = Path(spec.inputs[kind], file.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(paths[file.sha256])
        return spec
