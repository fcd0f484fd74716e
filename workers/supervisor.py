"""Runs one claimed execution from its inputs to its commit. Loads no engine: the work is in a child."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from core.errors import BlobLost, ChildCrashed, DoesNotFit, ErrorDocument, FewbitsError, VerificationFailed, os_error
from core.ids import WorkerId
from core.logging import log
from core.manifest import StoredFile
from db import artifacts, inputs
from db import lease as leases
from db.claim import Claim
from db.ending import Mishap, Retry
from db.lease import Result
from db.renewal import LeaseState
from db.room import UNMEASURED
from db.session import Database
from db.tokens import LeaseLost
from pipeline.kinds import KINDS
from pipeline.step_kind import Outcome
from pipeline.verify import VERIFIED
from store.port import BlobStore
from workers.checkpoint_keeper import CheckpointKeeper
from workers.departure import Departure
from workers.leases import HeldLease, Interrupted, LeaseBook
from workers.log_writer import LogWriter
from workers.metric_writer import MetricWriter
from workers.process import Child
from workers.protocol import SCRATCH_FULL, ChildSpec, Left
from workers.scratch import execution_folder
from workers.uploader import upload


@dataclass(frozen=True)
class Workplace:
    """What every child of a worker shares.

    Attributes:
        worker_id: who works.
        host: the machine's name.
        database: where claims come from and results go.
        store: where blobs are.
        folder: the worker's own folder on the scratch disk.
        kernels: where the children of this machine keep what engines compile.
        leases: keeps the worker's leases alive.
        retry: how often failed work is tried.
        team_running_max: how many executions of its pool a team may run at once, unless it has a quota.
        threads: CPU threads of a child.
        threads_alone: likewise of one beside which there is no other.
        source_roots: folders that a fetch may read.
        publish_roots: folders under which results may be published.
        method_modules: modules that register further methods.
        code_execution: whether the operator allows that programs are run which a model has written.
        departure: whether the worker must leave: children save their work and their executions are given back.
    """

    worker_id: WorkerId
    host: str
    database: Database
    store: BlobStore
    folder: Path
    kernels: Path
    leases: LeaseBook
    retry: Retry
    team_running_max: int | None
    threads: int
    threads_alone: int
    source_roots: tuple[Path, ...]
    publish_roots: tuple[Path, ...]
    method_modules: tuple[str, ...]
    code_execution: bool
    departure: Departure


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
        self._peaks = UNMEASURED
        self._went_on_in_vain = False

    def run(self) -> None:
        with self._at.leases.hold(self._claim.lease) as held:
            ending = self._attempt(held)
            try:
                self._settle(held, ending)
            except SQLAlchemyError as error:
                log.exception("the result cannot be written down")
                kind = type(error).__name__  # its text holds what cannot be kept
                self._settle(held, self._mishap(ChildCrashed(f"The step's result cannot be kept ({kind}).")))

    def _attempt(self, held: HeldLease) -> Result | Mishap | Left | None:
        """Return what the work came to; None where nobody wants it any more."""
        try:
            return self._work(held)
        except Interrupted:
            return Left() if held.state is LeaseState.HELD else None
        except BlobLost as error:
            sha256 = error.sha256
            self._went_on_in_vain = True  # it may be the checkpoint's
            held.persist(lambda session: artifacts.mark_lost(session, sha256))
            return self._mishap(error)
        except FewbitsError as error:
            return self._mishap(error)
        except OSError as error:
            return self._mishap(os_error(error, "The step could not be prepared", full=DoesNotFit(SCRATCH_FULL)))

    def _work(self, held: HeldLease) -> Result | Mishap | Left:
        def check() -> None:
            held.check()
            if self._at.departure.has_begun():
                raise Interrupted

        inputs, checkpoint = self._inputs(held)
        blobs = {file.sha256: file.size_bytes for files in (*inputs.values(), checkpoint) for file in files}
        with self._at.store.materialized(blobs, check) as paths:
            spec = self._prepare(inputs, checkpoint, paths)
            outcome = self._run_child(held, spec, checkpoint)
        if isinstance(outcome, Left):
            return outcome
        if not isinstance(outcome, Outcome):
            return Mishap(outcome, peaks=self._peaks)
        output = KINDS[self._claim.kind].output(self._claim.params)
        artifact = None if output is None else upload(held, self._at.store, spec.output, output)
        return Result(outcome.facts, artifact, outcome.evaluations, outcome.warnings, self._peaks)

    def _run_child(
        self, held: HeldLease, spec: ChildSpec, checkpoint: Sequence[StoredFile]
    ) -> Outcome | ErrorDocument | Left:
        writer = LogWriter(self._at.database, held, spec.log, self._claim)
        metrics = MetricWriter(self._at.database, held, self._claim)
        keeper = CheckpointKeeper(held, self._at.store, spec, checkpoint)
        with keeper, Child(spec, held.report, metrics.add, keeper.saved) as child:

            def tick() -> None:
                writer.copy()
                metrics.write()
                held.check()
                if self._at.departure.has_begun():
                    child.ask_to_leave()
                if self._at.departure.grace_is_over():
                    child.kill()

            try:
                outcome = child.wait(tick)
            finally:
                self._peaks = child.peaks()
            if not isinstance(outcome, Outcome):
                keeper.finish()
        self._went_on_in_vain = isinstance(outcome, dict) and bool(checkpoint) and not keeper.kept_count
        writer.finish()
        metrics.finish()
        return outcome

    def _settle(self, held: HeldLease, ending: Result | Mishap | Left | None) -> None:
        lease = self._claim.lease
        if held.state is LeaseState.LOST:
            raise LeaseLost
        if held.state is LeaseState.STOP or ending is None:
            self._clear()  # what is cancelled leaves nothing behind, also for whoever looks at once
            held.persist(lambda session: leases.stopped(session, lease, self._peaks))
        elif isinstance(ending, Result):
            held.persist(lambda session: leases.finish(session, lease, ending))
        elif isinstance(ending, Left):
            held.persist(lambda session: leases.release(session, lease, self._peaks))
        else:
            log.warning("attempt failed", error=ending.error)
            held.persist(lambda session: self._fail(session, ending))

    def _clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _mishap(self, error: FewbitsError) -> Mishap:
        return Mishap(error.document(), peaks=self._peaks)

    def _fail(self, session: Session, mishap: Mishap) -> None:
        """Note the failure, and that the result which did not pass is not to be used again; both or neither."""
        if mishap.error["code"] == VerificationFailed.code:
            artifacts.reject(session, self._claim.inputs[VERIFIED])
        if self._went_on_in_vain:
            leases.keep(session, self._claim.lease, ())  # it may be what the attempt failed of
        leases.fail(session, self._claim.lease, mishap, self._at.retry)

    def _inputs(self, held: HeldLease) -> tuple[Mapping[str, Sequence[StoredFile]], Sequence[StoredFile]]:
        """Return the files of each input, by the kind of the step that made it, and those of a checkpoint."""
        ids, execution_id = list(self._claim.inputs.values()), self._claim.lease.execution_id
        files, checkpoint = held.persist(
            lambda session: (inputs.files_of(session, ids), artifacts.checkpoint_of(session, execution_id))
        )
        return {kind: files[artifact_id] for kind, artifact_id in self._claim.inputs.items()}, checkpoint

    def _prepare(
        self,
        inputs: Mapping[str, Sequence[StoredFile]],
        checkpoint: Sequence[StoredFile],
        paths: Mapping[str, Path],
    ) -> ChildSpec:
        """Make the execution's folder, with links to its inputs, and its checkpoint, which the child may change."""
        spec = ChildSpec(
            kind=self._claim.kind,
            params=self._claim.params,
            inputs={kind: str(self._folder / "inputs" / kind) for kind in inputs},
            work=self._claim.lease.execution_id,
            folder=str(self._folder),
            kernels=str(self._at.kernels),
            threads=self._at.threads_alone if KINDS[self._claim.kind].is_exclusive else self._at.threads,
            device=self._device,
            source_roots=[str(root) for root in self._at.source_roots],
            publish_roots=[str(root) for root in self._at.publish_roots],
            method_modules=self._at.method_modules,
            code_execution=self._at.code_execution,
        )
        for folder in (spec.output, spec.scratch, spec.checkpoint):
            folder.mkdir(parents=True)
        for kind, files in inputs.items():
            for file in files:
                path = Path(spec.inputs[kind], file.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(paths[file.sha256])
        for file in checkpoint:
            path = spec.checkpoint / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(paths[file.sha256], path)
        return spec
