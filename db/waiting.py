"""Why work that is ready is not run, where it is not merely its turn.

Refuses to know: the team's quota, which it sees by itself, and what a worker complains of, which is its operator's.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.room import Need, Room
from db.states import StepStatus
from db.tables import Job, Step, Worker
from db.workers import is_live, paused


def reasons(session: Session, job: Job) -> list[str]:
    """Return a sentence for each ready step of a job that no worker takes, as things are now; two look-ups for each."""
    ready = [step for step in job.steps if step.status == StepStatus.READY]
    return [reason for step in ready if (reason := _reason(session, step)) is not None]


def _reason(session: Session, step: Step) -> str | None:
    kind = step.kind.capitalize()
    if step.pool in paused(session):
        return f"{kind} waits: the {step.pool} pool is paused by its operator."
    capacity = select(Worker.memory_bytes, Worker.vram_bytes, Worker.scratch_bytes).distinct()
    rows = session.execute(capacity.where(Worker.pool == step.pool, is_live(), Worker.drained_at.is_(None))).all()
    if not rows:
        return f"{kind} waits for a {step.pool} worker: none is there that takes work."
    if step.execution is None:
        return None  # what it needs is not known yet
    need = Need.of(step.execution)
    if any(Room(memory, vram or None, scratch).fits(need) for memory, vram, scratch in rows):
        return None
    return f"{kind} waits for a larger {step.pool} worker: it needs {need}."
