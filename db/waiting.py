"""Why work that is ready is not run, where it is not merely its turn.

Refuses to know: the team's quota, which it sees by itself, and what a worker complains of, which is its operator's.
"""

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from db.room import Need, Room
from db.shown import ShownJob
from db.states import StepStatus
from db.tables import Worker
from db.workers import is_live, paused

_READY = text("""
    SELECT steps.kind, steps.pool, steps.execution_id, memory_bytes, vram_bytes, scratch_bytes
    FROM steps LEFT JOIN executions ON executions.id = steps.execution_id
    WHERE steps.job_id = :job_id AND steps.status = 'ready' ORDER BY steps.position
""")


def reasons(session: Session, job: ShownJob) -> list[str]:
    """Return a sentence for each ready step of a job that no worker takes, as things are now; two look-ups for each."""
    if all(step.status != StepStatus.READY for step in job.steps):
        return []
    ready = session.execute(_READY, {"job_id": job.id}).all()
    return [reason for step in ready if (reason := _reason(session, step)) is not None]


def _reason(session: Session, step: Row[str, str, str | None, int, int, int]) -> str | None:
    kind = step.kind.capitalize()
    if step.pool in paused(session):
        return f"{kind} waits: the {step.pool} pool is paused by its operator."
    capacity = select(Worker.memory_bytes, Worker.vram_bytes, Worker.scratch_bytes).distinct()
    rows = session.execute(capacity.where(Worker.pool == step.pool, is_live(), Worker.drained_at.is_(None))).all()
    if not rows:
        return f"{kind} waits for a {step.pool} worker: none is there that takes work."
    if step.execution_id is None:
        return None  # what it needs is not known yet
    need = Need.of(step)
    if any(Room(memory, vram or None, scratch).fits(need) for memory, vram, scratch in rows):
        return None
    return f"{kind} waits for a larger {step.pool} worker: it needs {need}."
