"""Artifacts and their blobs: intents before an upload, one commit after it, collection of what nothing uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from core.ids import new_id
from core.manifest import StoredFile
from core.steps import EvaluationRow
from db import clock
from db.states import ExecutionStatus
from db.tables import Artifact, ArtifactFile, Blob, BlobIntent, CheckpointFile, Dataset, Evaluation, Execution
from db.tokens import Lease, require


@dataclass(frozen=True)
class NewArtifact:
    """What an execution made, all of its blobs in the store already."""

    role: str
    format: str
    digest: str
    files: tuple[StoredFile, ...]


def intend(session: Session, lease: Lease, blobs: Mapping[str, int]) -> None:
    """Pin blobs (SHA-256 to size) before they are uploaded; waits for a collection of the same blob to end.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    require(session, lease)
    expect_all(session, blobs)
    for sha256 in sorted(blobs):
        intent = insert(BlobIntent).values(sha256=sha256, execution_id=lease.execution_id, token=lease.token)
        session.execute(intent.on_conflict_do_nothing())


def expect_all(session: Session, blobs: Mapping[str, int]) -> None:
    """Have the rows of blobs (SHA-256 to size); see ``expect``."""
    for sha256, size_bytes in sorted(blobs.items()):
        expect(session, sha256, size_bytes)


def expect(session: Session, sha256: str, size_bytes: int) -> None:
    """Have the row of a blob, whose bytes may not be there yet; waits for a collection of the same blob to end."""
    row = insert(Blob).values(sha256=sha256, size_bytes=size_bytes)
    # An update that changes nothing waits for a collection of this blob. It must not touch the key: then it would
    # wait for every transaction that refers to the blob, too.
    session.execute(row.on_conflict_do_update(index_elements=["sha256"], set_={"size_bytes": Blob.size_bytes}))


def pin(session: Session, sha256: str) -> None:
    """Keep a blob, whose row is there, from collection."""
    session.execute(_PUT_IN_ARTIFACT, {"sha256s": [sha256]})


def hold(session: Session, sha256s: Sequence[str]) -> Sequence[str]:
    """Lock the rows of blobs, and return those that are there: whoever is about to have one waits, or is waited for."""
    locked = select(Blob.sha256).where(Blob.sha256.in_(sha256s)).order_by(Blob.sha256)
    return session.scalars(locked.with_for_update()).all()


def unpin(session: Session, sha256: str) -> None:
    """Let a blob that the caller holds be collected, unless an artifact or a dataset has it still."""
    has_it = or_(exists().where(ArtifactFile.sha256 == sha256), exists().where(Dataset.sha256 == sha256))
    session.execute(update(Blob).where(Blob.sha256 == sha256, ~has_it).values(in_artifact=False))


def commit(session: Session, team_id: str, lease: Lease, new: NewArtifact) -> None:
    """Make an artifact visible."""
    artifact = Artifact(
        id=new_id("art"),
        team_id=team_id,
        execution_id=lease.execution_id,
        role=new.role,
        format=new.format,
        digest=new.digest,
        size_bytes=sum(file.size_bytes for file in new.files),
    )
    session.add(artifact)
    session.flush()
    session.add_all(
        ArtifactFile(artifact_id=artifact.id, name=file.name, sha256=file.sha256, size_bytes=file.size_bytes)
        for file in sorted(new.files, key=lambda file: file.sha256)
    )
    session.flush()
    session.execute(_PUT_IN_ARTIFACT, {"sha256s": [file.sha256 for file in new.files]})


# In the order in which announcements lock them, too.
_PUT_IN_ARTIFACT = text("""
    UPDATE blobs SET in_artifact = true WHERE sha256 IN (
        SELECT sha256 FROM blobs WHERE sha256 = ANY (:sha256s) AND NOT in_artifact ORDER BY sha256 FOR NO KEY UPDATE
    )
""")


def commit_evaluations(session: Session, lease: Lease, rows: Sequence[EvaluationRow]) -> None:
    """Write what an execution measured."""
    session.add_all(
        Evaluation(
            execution_id=lease.execution_id,
            domain=row.domain,
            perplexity=row.perplexity,
            window_count=row.window_count,
            token_count=row.token_count,
            window_nll=list(row.window_nll),
            measures=row.measures,
        )
        for row in rows
    )
    session.flush()


def files_of(session: Session, artifact_ids: Sequence[str]) -> Mapping[str, Sequence[StoredFile]]:
    """Return the files of each artifact, by its id."""
    statement = select(Artifact).where(Artifact.id.in_(artifact_ids)).options(selectinload(Artifact.files))
    return {
        artifact.id: [StoredFile(file.name, file.sha256, file.size_bytes) for file in artifact.files]
        for artifact in session.scalars(statement)
    }


def keep_checkpoint(session: Session, lease: Lease, files: Sequence[StoredFile]) -> None:
    """Keep what lets an execution go on, in place of what was kept before. The caller holds the lease.

    What was announced and is not among the files is not wanted any more: it may be collected, though the work goes on.
    """
    of_it = CheckpointFile.execution_id == lease.execution_id
    stored = select(CheckpointFile.name, CheckpointFile.sha256).where(of_it)
    kept = {row.name: row.sha256 for row in session.execute(stored)}
    wanted = {file.name: file.sha256 for file in files}
    gone = [name for name, sha256 in kept.items() if wanted.get(name) != sha256]
    session.execute(delete(CheckpointFile).where(of_it, CheckpointFile.name.in_(gone)))
    session.add_all(
        CheckpointFile(execution_id=lease.execution_id, name=file.name, sha256=file.sha256, size_bytes=file.size_bytes)
        for file in files
        if kept.get(file.name) != file.sha256
    )
    session.flush()
    unused = ~exists().where(of_it, CheckpointFile.sha256 == BlobIntent.sha256)
    session.execute(delete(BlobIntent).where(BlobIntent.execution_id == lease.execution_id, unused))


def checkpoint_of(session: Session, execution_id: str) -> Sequence[StoredFile]:
    """Return what lets an execution go on; nothing where it must begin anew."""
    kept = select(CheckpointFile).where(CheckpointFile.execution_id == execution_id).order_by(CheckpointFile.name)
    return [StoredFile(file.name, file.sha256, file.size_bytes) for file in session.scalars(kept)]


def mark_lost(session: Session, sha256: str) -> None:
    """Note that a blob has vanished: what was made of it is made anew when it is wanted again."""
    holders = (
        select(Artifact.execution_id)
        .join(ArtifactFile, ArtifactFile.artifact_id == Artifact.id)
        .where(ArtifactFile.sha256 == sha256)
    )
    locked = select(Execution.id).where(
        Execution.id.in_(holders), Execution.status == ExecutionStatus.SUCCEEDED.value, Execution.lost_at.is_(None)
    )
    lost = session.scalars(locked.order_by(Execution.id).with_for_update()).all()
    session.execute(update(Execution).where(Execution.id.in_(lost)).values(lost_at=clock.now()))


def reject(session: Session, artifact_id: str) -> None:
    """Note that an artifact is not what it must be: what made it runs anew when it is wanted again."""
    made = select(Artifact.execution_id).where(Artifact.id == artifact_id).scalar_subquery()
    session.execute(
        update(Execution).where(Execution.id == made).values(lost_at=func.coalesce(Execution.lost_at, clock.now()))
    )


def lock_garbage(session: Session, grace_seconds: float) -> str | None:
    """Lock one blob that is older than the grace and that no artifact, dataset or live intent pins, and return it."""
    garbage = _garbage(grace_seconds)
    locked = select(Blob.sha256).where(garbage).order_by(Blob.created_at).limit(1).with_for_update(skip_locked=True)
    sha256 = session.scalar(locked)
    # Looked at again under the lock: what was committed since the first look began is seen only now.
    return session.scalar(select(Blob.sha256).where(Blob.sha256 == sha256, garbage)) if sha256 else None


def forget(session: Session, sha256: str) -> None:
    """Delete the row of a blob whose bytes are gone."""
    session.execute(delete(BlobIntent).where(BlobIntent.sha256 == sha256))
    session.execute(delete(Blob).where(Blob.sha256 == sha256))


def _garbage(grace_seconds: float) -> ColumnElement[bool]:
    used = exists().where(ArtifactFile.sha256 == Blob.sha256)
    kept = exists().where(CheckpointFile.sha256 == Blob.sha256)
    live = (Execution.id == BlobIntent.execution_id) & (Execution.token == BlobIntent.token)
    intended = exists().where(BlobIntent.sha256 == Blob.sha256, live, Execution.status == ExecutionStatus.RUNNING.value)
    of_team = exists().where(Dataset.sha256 == Blob.sha256)
    old = Blob.created_at < clock.ago(grace_seconds)
    return and_(~Blob.in_artifact, ~used, ~kept, ~intended, ~of_team, old)
