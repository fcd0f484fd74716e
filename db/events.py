"""A job's story: numbered under its row's lock, so that a stream resumed by number misses none."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db.notify import JOBS, notify
from db.tables import Event, Job


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
    number = session.scalar(
        update(Job).where(Job.id == job_id).values(event_count=Job.event_count + 1).returning(Job.event_count)
    )
    session.add(Event(job_id=job_id, number=number, level=level, type=kind, message=message, data=data))
    session.flush()
    notify(session, JOBS, job_id)


def after(session: Session, job_id: str, number: int, limit: int) -> Sequence[Event]:
    """Return up to ``limit`` events of a job that follow event ``number``, in order."""
    return session.scalars(
        select(Event).where(Event.job_id == job_id, Event.number > number).order_by(Event.number).limit(limit)
    ).all()
