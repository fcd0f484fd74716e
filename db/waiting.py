"""Why work that is ready is not run, where it is not merely its turn.

Refuses to know: the team's quota, which it sees by itself, and what a worker complains of, which is its operator's.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db import workers
from db.room import GPU, Need, Room, lacks_gpu
from db.shown import ShownJob
from db.states import StepStatus

_READY = text("""
    SELECT steps.kind, steps.pool, steps.execution_id, memory_bytes, vram_bytes, scratch_bytes, needs_gpu,
        coalesce(is_exclusive, false) AS is_exclusive
    FROM steps LEFT JOIN executions ON executions.id = steps.execution_id
    WHERE steps.job_id = :job_id AND steps.status = 'ready' ORDER BY steps.position
""")


_HAS_IDLE_HOST = text(f"""
    SELECT EXISTS (SELECT FROM workers WHERE {workers.IS_LIVE} AND drained_at IS NULL AND pool = :pool AND NOT EXISTS (
        SELECT FROM executions JOIN workers AS others ON others.id = executions.worker_id
        WHERE executions.status = 'running' AND others.host = workers.host
    ))
""")


def reasons(session: Session, job: ShownJob) -> list[str]:
    """Return a sentence for each ready step of a job that no worker takes, as things are now."""
    if all(step.status != StepStatus.READY for step in job.steps):
        return []
    ready = session.execute(_READY, {"job_id": job.id}).all()
    paused, rooms = workers.paused(session), workers.claiming_rooms(session)
    said = (
        _reason(step, is_paused=step.pool in paused, rooms=rooms.get(step.pool, ())) or _waits_for_host(session, step)
        for step in ready
    )
    return [reason for reason in said if reason is not None]


def _waits_for_host(session: Session, step: Row[Any]) -> str | None:
    """Return that a step must be alone on its host, while something runs on each that there is."""
    if not step.is_exclusive or session.scalar(_HAS_IDLE_HOST, {"pool": step.pool}):
        return None
    return f"{step.kind.capitalize()} waits until nothing else runs on the machine of a {step.pool} worker."


def _reason(step: Row[Any], *, is_paused: bool, rooms: Sequence[Room]) -> str | None:
    kind = step.kind.capitalize()
    if is_paused:
        return f"{kind} waits: the {step.pool} pool is paused by its operator."
    if not rooms:
        return f"{kind} waits for a {step.pool} worker: none is there that takes work."
    if step.execution_id is None:
        return None  # what it needs is not known yet
    need = Need.of(step)
    if any(room.fits(need) for room in rooms):
        return None
    if lacks_gpu(need, rooms):
        return f"{kind} waits for a {step.pool} worker with {GPU}: none of those that take work has one."
    return f"{kind} waits for a larger {step.pool} worker: it needs {need}."
