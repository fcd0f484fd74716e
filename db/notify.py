"""Postgres notifications: a nudge for whoever listens, sent when the transaction commits. Nothing relies on one."""

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlalchemy.sql import func

WORK = "fewbits_work"  # payload: a pool that has work
JOBS = "fewbits_jobs"  # payload: the id of a job that changed


def notify(session: Session, channel: str, payload: str) -> None:
    """Send ``payload`` on ``channel`` when the transaction commits."""
    session.execute(select(func.pg_notify(channel, payload)))
