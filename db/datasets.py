"""A team's own datasets: announced, stored, kept, and deleted once no job needs them.

A dataset's row is there before its bytes are, as an upload of a worker announces its blobs: no collection takes them.
What an upload that never ended has left is forgotten later.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, delete, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.dataset_kinds import FOR_CALIBRATION, FOR_PERPLEXITY, FOR_TASKS, DatasetKind, listed
from core.errors import Conflict, InvalidRequest, NotFound, StoreFailed
from core.ids import DatasetId, TeamId, new_id
from core.manifest import StoredFile
from db import artifacts, clock
from db.states import JobStatus, live
from db.tables import Dataset, Job

FIELD = "calibration_text"  # where a recipe names a dataset
FILE = "dataset"  # what its file is called where work reads it


@dataclass(frozen=True)
class Use:
    """What a request names a dataset for.

    Attributes:
        param: where in the request.
        what: what the dataset is there, in words.
        kinds: those that are of use.
    """

    param: str
    what: str
    kinds: tuple[DatasetKind, ...]


def judged_on(index: int) -> Use:
    """Return what a dataset is for that is one of the domains of an evaluation."""
    return Use(f"evaluation.domains.{index}", "what perplexity is measured on", FOR_PERPLEXITY)


def task(index: int) -> Use:
    """Return what a dataset is for that is one of the tasks of an evaluation."""
    return Use(f"evaluation.tasks.{index}", "a task", FOR_TASKS)


CALIBRATION = Use(f"recipe.{FIELD}", "a calibration text", FOR_CALIBRATION)


@dataclass(frozen=True)
class NewDataset:
    """What is known of a dataset once its bytes have come."""

    name: str
    kind: DatasetKind
    sha256: str
    size_bytes: int
    document_count: int


def announce(session: Session, team_id: TeamId, new: NewDataset) -> DatasetId:
    """Pin the blob of a dataset whose bytes are about to be stored; one of the same bytes is the same dataset.

    Waits for a collection of the same blob to end.
    """
    artifacts.expect(session, new.sha256, new.size_bytes)
    artifacts.pin(session, new.sha256)
    values = {"id": new_id("dataset"), "team_id": team_id, **asdict(new)}
    row = (
        insert(Dataset)
        .values(values)
        .on_conflict_do_update(index_elements=["team_id", "sha256", "kind"], set_={"announced_at": clock.now()})
    )
    return DatasetId(session.scalars(row.returning(Dataset.id)).one())


def is_announced(session: Session, team_id: TeamId, new: NewDataset) -> bool:
    """Return whether a team has announced a dataset of the same bytes before, and has not deleted it."""
    same = (Dataset.team_id == team_id, Dataset.sha256 == new.sha256, Dataset.kind == new.kind)
    return session.scalar(select(Dataset.id).where(*same)) is not None


def keep(session: Session, dataset_id: DatasetId) -> tuple[Dataset, bool]:
    """Make a dataset visible, all of its bytes in the store, and return it, and whether it is new.

    Raises:
        StoreFailed: it was deleted, or forgotten, since it was announced; or another upload of it has failed.
    """
    newly = update(Dataset).where(Dataset.id == dataset_id, Dataset.stored_at.is_(None)).values(stored_at=clock.now())
    is_new = session.scalar(newly.returning(Dataset.id)) is not None
    kept = session.get(Dataset, dataset_id, populate_existing=True)
    if kept is None:
        raise StoreFailed("The dataset was deleted, or failed to be stored, in another request. Send it again.")
    return kept, is_new


def abandon(session: Session, new: NewDataset, dataset_id: DatasetId) -> None:
    """Forget a dataset whose bytes could not be stored, unless an earlier upload has stored them.

    One that goes on meanwhile has to be sent again, which `keep` says.
    """
    artifacts.hold(session, [new.sha256])
    _delete(session, Dataset.id == dataset_id, Dataset.stored_at.is_(None))


def get(session: Session, team_id: TeamId, dataset_id: str) -> Dataset:
    """Return a dataset.

    Raises:
        NotFound: there is none of that id in this team.
    """
    found = find(session, team_id, dataset_id)
    if found is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    return found


def find(session: Session, team_id: TeamId, dataset_id: str) -> Dataset | None:
    """Return a dataset, None where the team has none of that id."""
    return session.scalar(select(Dataset).where(*_seen_by(team_id), Dataset.id == dataset_id))


def require_for_job(session: Session, team_id: TeamId, dataset_id: str, use: Use) -> Dataset:
    """Return a dataset that a job will need; it cannot be deleted before this transaction has written the job.

    Raises:
        InvalidRequest: there is none of that id in this team, or it is of a kind that is of no use there.
    """
    statement = select(Dataset).where(*_seen_by(team_id), Dataset.id == dataset_id)
    found = session.scalar(statement.with_for_update(read=True))
    if found is None:
        raise InvalidRequest(
            f"There is no dataset {dataset_id}. The portal's page Datasets, 'fewbits datasets' and GET /v1/datasets "
            "list those of your team; that page, 'fewbits datasets upload FILE' and POST /v1/datasets bring one.",
            param=use.param,
        )
    if found.kind not in use.kinds:
        raise InvalidRequest(
            f"The dataset {dataset_id} is of kind {found.kind}; {use.what} must be of kind {listed(use.kinds)}. "
            f"'fewbits datasets --kind {use.kinds[0]}' and the portal's page Datasets show which are.",
            param=use.param,
        )
    return found


def list_page(
    session: Session, team_id: TeamId, after: str | None, limit: int, kinds: Collection[DatasetKind] = ()
) -> tuple[Sequence[Dataset], bool]:
    """Return up to ``limit`` datasets, newest first, that follow dataset ``after``, and whether there are more.

    Args:
        session: in whose transaction.
        team_id: whose they are.
        after: the last one seen so far.
        limit: the most that are returned.
        kinds: only datasets of these; of any, where none is named.

    Raises:
        InvalidRequest: ``after`` is no dataset of this team.
    """
    conditions = [*_seen_by(team_id)]
    if kinds:
        conditions.append(Dataset.kind.in_(kinds))
    if after is not None:
        created_at = session.scalar(select(Dataset.created_at).where(*_seen_by(team_id), Dataset.id == after))
        if created_at is None:
            raise InvalidRequest(f"There is no dataset {after} to continue after.", param="after")
        conditions.append(tuple_(Dataset.created_at, Dataset.id) < (created_at, after))
    newest_first = select(Dataset).where(*conditions).order_by(Dataset.created_at.desc(), Dataset.id.desc())
    found = session.scalars(newest_first.limit(limit + 1)).all()
    return found[:limit], len(found) > limit


def remove(session: Session, team_id: TeamId, dataset_id: str) -> None:
    """Delete a dataset; its blob is collected once nothing else has it.

    Raises:
        NotFound: there is none of that id in this team.
        Conflict: a job that is not over needs it.
    """
    artifacts.hold(session, [get(session, team_id, dataset_id).sha256])  # the blob before the dataset, as who uploads
    # A job that names it is written under a lock on its row, so none can come once this one is held.
    session.execute(select(Dataset.id).where(Dataset.id == dataset_id).with_for_update())
    if (job_id := needed_by(session, team_id, dataset_id)) is not None:
        raise Conflict(f"The job {job_id} needs the dataset and is not over. Wait for its end, or cancel it.")
    _delete(session, Dataset.id == dataset_id)


def needed_by(session: Session, team_id: TeamId, dataset_id: str) -> str | None:
    """Return a job that is not over and needs a dataset, None where there is none."""
    is_live = Job.status.in_(live(JobStatus))
    judged_by = (Job.evaluation[name].contains([dataset_id]) for name in ("domains", "tasks"))
    named = or_(Job.recipe[FIELD].astext == dataset_id, *judged_by)
    needs_it = select(Job.id).where(Job.team_id == team_id, is_live, named)
    return session.scalar(needs_it.limit(1))


def files_of(session: Session, dataset_ids: Sequence[str]) -> Mapping[str, Sequence[StoredFile]]:
    """Return the one file of each dataset, by the dataset's id."""
    found = session.scalars(select(Dataset).where(Dataset.id.in_(dataset_ids)))
    return {one.id: [StoredFile(FILE, one.sha256, one.size_bytes)] for one in found}


def forget_unfinished(session: Session, older_than_seconds: float) -> int:
    """Delete what uploads that began longer ago and never ended have left, and return how many."""
    unfinished = (Dataset.stored_at.is_(None), Dataset.announced_at < clock.ago(older_than_seconds))
    # A blob that was collected meanwhile may be announced anew, with a dataset that is not held by this.
    held = artifacts.hold(session, session.scalars(select(Dataset.sha256).where(*unfinished)).all())
    return _delete(session, *unfinished, Dataset.sha256.in_(held))


def _delete(session: Session, *which: ColumnElement[bool]) -> int:
    deleted = session.scalars(delete(Dataset).where(*which).returning(Dataset.sha256)).all()
    for sha256 in sorted(set(deleted)):
        artifacts.unpin(session, sha256)
    return len(deleted)


def _seen_by(team_id: TeamId) -> tuple[ColumnElement[bool], ...]:
    return (Dataset.team_id == team_id, Dataset.stored_at.is_not(None))
