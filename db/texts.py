"""A team's own texts: announced, stored, kept, and deleted once no job needs them.

A text's row is there before its bytes are, as an upload of a worker announces its blobs: no collection takes them. What
an upload that never ended has left is forgotten later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, delete, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.errors import Conflict, InvalidRequest, NotFound, StoreFailed
from core.ids import TeamId, TextId, new_id
from core.manifest import StoredFile
from db import artifacts, clock
from db.states import JobStatus, live
from db.tables import Job, Text

FIELD = "calibration_text"  # where a recipe names a text
SUFFIXES: Mapping[str, str] = {"text": "txt", "jsonl": "jsonl"}


@dataclass(frozen=True)
class NewText:
    """What is known of a text once its bytes have come."""

    name: str
    format: str
    sha256: str
    size_bytes: int
    document_count: int


def announce(session: Session, team_id: TeamId, new: NewText) -> TextId:
    """Pin the blob of a text whose bytes are about to be stored; one of the same bytes is the same text.

    Waits for a collection of the same blob to end.
    """
    artifacts.expect(session, new.sha256, new.size_bytes)
    artifacts.pin(session, new.sha256)
    values = {"id": new_id("text"), "team_id": team_id, **asdict(new)}
    row = (
        insert(Text)
        .values(values)
        .on_conflict_do_update(index_elements=["team_id", "sha256", "format"], set_={"announced_at": clock.now()})
    )
    return TextId(session.scalars(row.returning(Text.id)).one())


def is_announced(session: Session, team_id: TeamId, new: NewText) -> bool:
    """Return whether a team has announced a text of the same bytes before, and has not deleted it."""
    same = (Text.team_id == team_id, Text.sha256 == new.sha256, Text.format == new.format)
    return session.scalar(select(Text.id).where(*same)) is not None


def keep(session: Session, text_id: TextId) -> tuple[Text, bool]:
    """Make a text visible, all of its bytes in the store, and return it, and whether it is new.

    Raises:
        StoreFailed: it was deleted, or forgotten, since it was announced.
    """
    newly = update(Text).where(Text.id == text_id, Text.stored_at.is_(None)).values(stored_at=clock.now())
    is_new = session.scalar(newly.returning(Text.id)) is not None
    kept = session.get(Text, text_id, populate_existing=True)
    if kept is None:
        raise StoreFailed("The text was deleted while it was being stored. Send it again.")
    return kept, is_new


def get(session: Session, team_id: TeamId, text_id: str) -> Text:
    """Return a text.

    Raises:
        NotFound: there is none of that id in this team.
    """
    found = find(session, team_id, text_id)
    if found is None:
        raise NotFound(f"There is no text {text_id}.")
    return found


def find(session: Session, team_id: TeamId, text_id: str) -> Text | None:
    """Return a text, None where the team has none of that id."""
    return session.scalar(select(Text).where(*_seen_by(team_id), Text.id == text_id))


def require_for_job(session: Session, team_id: TeamId, text_id: str) -> Text:
    """Return a text that a job will need; it cannot be deleted before this transaction has written the job.

    Raises:
        InvalidRequest: there is none of that id in this team.
    """
    statement = select(Text).where(*_seen_by(team_id), Text.id == text_id)
    found = session.scalar(statement.with_for_update(read=True))
    if found is None:
        raise InvalidRequest(
            f"There is no text {text_id}. The portal's page Texts, 'fewbits texts' and GET /v1/texts list those of "
            "your team; that page, 'fewbits texts upload FILE' and POST /v1/texts bring one.",
            param=f"recipe.{FIELD}",
        )
    return found


def list_page(session: Session, team_id: TeamId, after: str | None, limit: int) -> tuple[Sequence[Text], bool]:
    """Return up to ``limit`` texts, newest first, that follow text ``after``, and whether there are more.

    Raises:
        InvalidRequest: ``after`` is no text of this team.
    """
    conditions = [*_seen_by(team_id)]
    if after is not None:
        created_at = session.scalar(select(Text.created_at).where(*_seen_by(team_id), Text.id == after))
        if created_at is None:
            raise InvalidRequest(f"There is no text {after} to continue after.", param="after")
        conditions.append(tuple_(Text.created_at, Text.id) < (created_at, after))
    newest_first = select(Text).where(*conditions).order_by(Text.created_at.desc(), Text.id.desc())
    found = session.scalars(newest_first.limit(limit + 1)).all()
    return found[:limit], len(found) > limit


def remove(session: Session, team_id: TeamId, text_id: str) -> None:
    """Delete a text; its blob is collected once nothing else has it.

    Raises:
        NotFound: there is none of that id in this team.
        Conflict: a job that is not over needs it.
    """
    artifacts.hold(session, [get(session, team_id, text_id).sha256])  # the blob before the text, as who uploads
    # A job that names it is written under a lock on its row, so none can come once this one is held.
    session.execute(select(Text.id).where(Text.id == text_id).with_for_update())
    if (job_id := needed_by(session, team_id, text_id)) is not None:
        raise Conflict(f"The job {job_id} needs the text and is not over. Wait for its end, or cancel it.")
    _delete(session, Text.id == text_id)


def needed_by(session: Session, team_id: TeamId, text_id: str) -> str | None:
    """Return a job that is not over and needs a text, None where there is none."""
    is_live = Job.status.in_(live(JobStatus))
    needs_it = select(Job.id).where(Job.team_id == team_id, is_live, Job.recipe[FIELD].astext == text_id)
    return session.scalar(needs_it.limit(1))


def files_of(session: Session, text_ids: Sequence[str]) -> Mapping[str, Sequence[StoredFile]]:
    """Return the one file of each text, by the text's id."""
    found = session.scalars(select(Text).where(Text.id.in_(text_ids)))
    return {one.id: [StoredFile(f"text.{SUFFIXES[one.format]}", one.sha256, one.size_bytes)] for one in found}


def forget_unfinished(session: Session, older_than_seconds: float) -> int:
    """Delete what uploads that began longer ago and never ended have left, and return how many."""
    unfinished = (Text.stored_at.is_(None), Text.announced_at < clock.ago(older_than_seconds))
    # A blob that was collected meanwhile may be announced anew, with a text that is not held by this.
    held = artifacts.hold(session, session.scalars(select(Text.sha256).where(*unfinished)).all())
    return _delete(session, *unfinished, Text.sha256.in_(held))


def _delete(session: Session, *which: ColumnElement[bool]) -> int:
    deleted = session.scalars(delete(Text).where(*which).returning(Text.sha256)).all()
    for sha256 in sorted(set(deleted)):
        artifacts.unpin(session, sha256)
    return len(deleted)


def _seen_by(team_id: TeamId) -> tuple[ColumnElement[bool], ...]:
    return (Text.team_id == team_id, Text.stored_at.is_not(None))
