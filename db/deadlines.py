"""The two deadlines of a job: how long it may wait for a worker, how long it may run."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from core.errors import DeadlineExceeded
from db import clock, flow
from db.locks import lock_job
from db.states import JobStatus
from db.tables import Job


def overdue(session: Session) -> Sequence[str]:
    """Return the jobs that have waited or run for longer than they allow."""
    return session.scalars(select(Job.id).where(_is_overdue())).all()


def expire(session: Session, job_id: str) -> bool:
    """Fail a job that is overdue; return whether it still was once it was locked."""
    job = lock_job(session, job_id)
    if session.scalar(select(Job.id).where(Job.id == job_id, _is_overdue())) is None:
        return False
    waited = job.status == JobStatus.QUEUED
    field, verb = ("max_pending_seconds", "waited") if waited else ("max_runtime_seconds", "run")
    message = f"The job has {verb} for longer than its {field} of {getattr(job, field)}. Submit it with a larger value."
    flow.fail(session, job.id, DeadlineExceeded(message, param=field).document())
    return True


def _is_overdue() -> ColumnElement[bool]:
    pending = (Job.status == JobStatus.QUEUED.value) & (
        clock.now() > Job.created_at + clock.seconds(Job.max_pending_seconds)
    )
    running = (Job.status == JobStatus.RUNNING.value) & (
        clock.now() > Job.started_at + clock.seconds(Job.max_runtime_seconds)
    )
    return or_(pending, running)
