"""What attempts printed, in chunks."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.tables import LogChunk, Step
from db.tokens import Lease, require

CHUNKS_AT_ONCE = 16


def append(session: Session, lease: Lease, attempt: int, text: str, offset_bytes: int) -> None:
    """Write a chunk of at most 64 KiB; nothing where the attempt has one that begins there.

    Args:
        session: the caller's transaction.
        lease: of the execution.
        attempt: which attempt printed it.
        text: the chunk.
        offset_bytes: where in the attempt's log it begins.

    Raises:
        LeaseLost: the token is not the row's any more.
    """
    require(session, lease)
    chunk = insert(LogChunk).values(
        execution_id=lease.execution_id, attempt=attempt, offset_bytes=offset_bytes, text=text
    )
    session.execute(chunk.on_conflict_do_nothing(index_elements=["execution_id", "attempt", "offset_bytes"]))


def page(  # noqa: PLR0913 - what is asked for, and where the page begins and ends
    session: Session, job_id: str, step: str | None, after: int, limit: int, *, attempt: int | None = None
) -> tuple[Sequence[tuple[Step, LogChunk]], bool]:
    """Return up to ``limit`` log chunks that follow chunk ``after``, each with its step, and whether there are more."""
    statement = (
        select(Step, LogChunk)
        .join(LogChunk, LogChunk.execution_id == Step.execution_id)
        .where(Step.job_id == job_id, LogChunk.id > after)
        .order_by(LogChunk.id)
        .limit(limit + 1)
    )
    if step is not None:
        statement = statement.where(Step.kind == step)
    if attempt is not None:
        statement = statement.where(LogChunk.attempt == attempt)
    rows = [(row[0], row[1]) for row in session.execute(statement)]
    return rows[:limit], len(rows) > limit


def tail(session: Session, job_id: str, bytes_max: int) -> Sequence[tuple[Step, LogChunk]]:
    """Return a job's last log chunks, oldest first, each with its step: as many as hold ``bytes_max`` bytes."""
    statement = (
        select(Step, LogChunk)
        .join(LogChunk, LogChunk.execution_id == Step.execution_id)
        .where(Step.job_id == job_id)
        .order_by(LogChunk.id.desc())
        .execution_options(yield_per=CHUNKS_AT_ONCE)
    )
    rows: list[tuple[Step, LogChunk]] = []
    size_bytes = 0
    with session.execute(statement) as found:
        for step, chunk in found:
            rows.append((step, chunk))
            size_bytes += len(chunk.text.encode())
            if size_bytes >= bytes_max:
                break
    return rows[::-1]
