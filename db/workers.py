"""The workers that claim: who is there, with how many slots."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from core.ids import WorkerId, new_id
from db import clock
from db.states import ExecutionStatus
from db.tables import Execution, Worker

SEEN_WITHIN_SECONDS = 30  # a worker that has been silent for longer counts as gone


@dataclass(frozen=True)
class Node:
    """What a worker offers: its pool and device, how many children at once, and all of its memory and scratch disk."""

    pool: str
    host: str
    pid: int
    device: str
    slots: int
    memory_bytes: int
    scratch_bytes: int


def register(session: Session, node: Node) -> WorkerId:
    """Write a worker's row."""
    worker = Worker(
        id=new_id("worker"),
        pool=node.pool,
        host=node.host,
        pid=node.pid,
        device=node.device,
        slots=node.slots,
        memory_bytes=node.memory_bytes,
        scratch_bytes=node.scratch_bytes,
    )
    session.add(worker)
    session.flush()
    return WorkerId(worker.id)


def seen(session: Session, worker_id: WorkerId) -> None:
    """Note that a worker is alive."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(seen_at=clock.now()))


def stopped(session: Session, worker_id: WorkerId) -> None:
    """Note that a worker has ended in good order."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(stopped_at=clock.now()))


def free_slots(session: Session) -> Mapping[str, int]:
    """Return, for each pool with a live worker, how many more executions its workers could run."""
    running = (
        select(Execution.worker_id, func.count().label("count"))
        .where(Execution.status == ExecutionStatus.RUNNING.value)
        .group_by(Execution.worker_id)
        .subquery()
    )
    free = func.greatest(Worker.slots - func.coalesce(running.c.count, 0), 0)
    statement = (
        select(Worker.pool, func.sum(free))
        .outerjoin(running, running.c.worker_id == Worker.id)
        .where(is_live())
        .group_by(Worker.pool)
    )
    return {pool: int(count) for pool, count in session.execute(statement)}


def is_live() -> ColumnElement[bool]:
    """Return the condition that a worker is there."""
    silence = clock.seconds(SEEN_WITHIN_SECONDS)
    live: ColumnElement[bool] = Worker.stopped_at.is_(None) & (Worker.seen_at > clock.now() - silence)
    return live
