"""A job's story: numbered under its row's lock, so that a stream resumed by number misses none."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db.notify import JOBS
from db.tables import Event

_RECORD = text("""
    WITH told AS (
        UPDATE jobs SET event_count = event_count + 1 WHERE id = :job_id RETURNING event_count
    ), recorded AS (
        INSERT INTO events (job_id, number, level, type, message, data)
        SELECT :job_id, event_count, :level, :type, :message, CAST(:data AS jsonb) FROM told
    )
    SELECT pg_notify(:channel, :job_id)
""")


def record(
    session: Session, job_id: str, message: str, *, level: str = "info", kind: str = "state", **data: Any
) -> None:
    """Append an event to a job. Takes the lock of the job's row.

    Args:
        session: the caller's transaction.
        job_id: the job.
        message: one sentence for a person.
        level: ``info``, ``warn`` or ``error``.
        kind: ``state``, ``message`` or ``metrics``.
        data: JSON-compatible details.
    """
    session.execute(
        _RECORD,
        {
            "job_id": job_id,
            "level": level,
            "type": kind,
            "message": message,
            "data": json.dumps(data),
            "channel": JOBS,
        },
    )


def after(session: Session, job_id: str, number: int, limit: int) -> Sequence[Event]:
    """Return up to ``limit`` events of a job that follow event ``number``, in order."""
    return session.scalars(
        select(Event).where(Event.job_id == job_id, Event.number > number).order_by(Event.number).limit(limit)
    ).all()


def warnings_at_submit(session: Session, job_id: str) -> Sequence[str]:
    """Return what was told of a job when it was submitted, before any step had something to say."""
    is_warning = (Event.level == "warn") & (Event.type == "message") & ~Event.data.has_key("step")
    return session.scalars(select(Event.message).where(Event.job_id == job_id, is_warning).order_by(Event.number)).all()
