"""The workers that claim: who is there, what they have, what an operator has told them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Boolean, ColumnElement, Subquery, TextClause, delete, func, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.errors import Conflict, NotFound
from core.ids import WorkerId, new_id
from db import clock
from db.notify import WORK, notify
from db.room import Need, Room
from db.states import ExecutionStatus
from db.tables import Execution, PausedPool, Worker

SEEN_WITHIN_SECONDS = 30  # a worker that has been silent for longer counts as gone
REGISTERED_SECONDS = 7 * 24 * 3600  # one that was there within a week may come back
IS_LIVE = f"""
    workers.stopped_at IS NULL AND workers.seen_at > clock_timestamp() - make_interval(secs => {SEEN_WITHIN_SECONDS})
"""
# What the live workers of each pool have, the largest first; as with ``Room``, without a GPU ``vram_bytes`` is NULL.
_ROOMS = "SELECT DISTINCT pool, memory_bytes, nullif(vram_bytes, 0) AS vram_bytes, scratch_bytes FROM workers"
ROOMS = f"{_ROOMS} WHERE {IS_LIVE} ORDER BY memory_bytes DESC, vram_bytes DESC NULLS LAST, scratch_bytes DESC"
_LIVE_ROOMS = text(ROOMS)
_CLAIMING_ROOMS = text(f"{_ROOMS} WHERE {IS_LIVE} AND drained_at IS NULL")
_REGISTERED_ROOMS = text(f"{_ROOMS} WHERE seen_at > clock_timestamp() - make_interval(secs => {REGISTERED_SECONDS})")


@dataclass(frozen=True)
class Node:
    """What a worker offers: its pool and device, how many children at once, and what one child may have if it is alone.

    ``capacity.vram_bytes`` is None where children compute on the CPU.
    """

    pool: str
    host: str
    pid: int
    device: str
    slots: int
    capacity: Room


@dataclass(frozen=True)
class Seen:
    """A worker as an operator sees it."""

    worker: Worker
    is_live: bool
    running: int


def register(session: Session, node: Node) -> WorkerId:
    """Write a worker's row."""
    worker = Worker(
        id=new_id("worker"),
        pool=node.pool,
        host=node.host,
        pid=node.pid,
        device=node.device,
        slots=node.slots,
        memory_bytes=node.capacity.memory_bytes,
        vram_bytes=node.capacity.vram_bytes or 0,
        scratch_bytes=node.capacity.scratch_bytes,
    )
    session.add(worker)
    session.flush()
    return WorkerId(worker.id)


def stopped(session: Session, worker_id: WorkerId) -> None:
    """Note that a worker has ended in good order."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(stopped_at=clock.now()))


def drain(session: Session, worker_id: str, *, claims_again: bool = False) -> bool:
    """Have a worker claim nothing more, or again; what it runs goes on.

    Returns:
        Whether the worker is there. One that has fallen silent is held to it should it come back.

    Raises:
        NotFound: there is no such worker.
        Conflict: it has ended.
    """
    values = {"drained_at": None if claims_again else func.coalesce(Worker.drained_at, clock.now())}
    has_not_ended = update(Worker).where(Worker.id == worker_id, Worker.stopped_at.is_(None))
    told = session.execute(has_not_ended.values(values).returning(Worker.pool, is_live())).one_or_none()
    if told is None:
        if session.get(Worker, worker_id) is None:
            raise NotFound(f"There is no worker {worker_id!r}. 'fewbitsd workers list' shows those that there are.")
        raise Conflict(
            f"Worker {worker_id} has ended: it runs nothing and claims nothing more. Where it was started anew it is "
            "another one, with another id: 'fewbitsd workers list' shows it."
        )
    pool, is_there = told
    notify(session, WORK, pool)
    return bool(is_there)


def pause(session: Session, pool: str) -> None:
    """Have no worker of a pool claim anything more; what they run goes on."""
    session.execute(insert(PausedPool).values(pool=pool).on_conflict_do_nothing())


def resume(session: Session, pool: str) -> None:
    """Have the workers of a pool claim again."""
    session.execute(delete(PausedPool).where(PausedPool.pool == pool))
    notify(session, WORK, pool)


def paused(session: Session) -> Sequence[str]:
    """Return the pools that are paused."""
    return session.scalars(select(PausedPool.pool).order_by(PausedPool.pool)).all()


def seen(session: Session) -> Sequence[Seen]:
    """Return the workers that were there within a week, by pool, the newest first."""
    running = _running_by_worker()
    statement = (
        select(Worker, is_live().label("is_live"), func.coalesce(running.c.count, 0))
        .outerjoin(running, running.c.worker_id == Worker.id)
        .where(_is_registered())
        .order_by(Worker.pool, Worker.started_at.desc())
    )
    return [Seen(*row) for row in session.execute(statement)]


def free_slots(session: Session) -> Mapping[str, int]:
    """Return, for each pool whose live workers may claim, how many more executions they could run."""
    running = _running_by_worker()
    free = func.greatest(Worker.slots - func.coalesce(running.c.count, 0), 0)
    statement = (
        select(Worker.pool, func.sum(free))
        .outerjoin(running, running.c.worker_id == Worker.id)
        .where(is_live(), Worker.drained_at.is_(None), Worker.pool.not_in(select(PausedPool.pool)))
        .group_by(Worker.pool)
    )
    return {pool: int(count) for pool, count in session.execute(statement)}


def registered_rooms(session: Session) -> Mapping[str, Sequence[Room]]:
    """Return, for each pool, what the workers have that were there within a week, if they do nothing else."""
    return _rooms(session, _REGISTERED_ROOMS)


def claiming_rooms(session: Session) -> Mapping[str, Sequence[Room]]:
    """Return likewise what the workers have that are there and not drained."""
    return _rooms(session, _CLAIMING_ROOMS)


def largest_room(session: Session, pool: str, need: Need) -> Room | None:
    """Return what the largest live worker has among those that have room for work."""
    return next((room for room in _rooms(session, _LIVE_ROOMS).get(pool, ()) if room.fits(need)), None)


def is_live() -> ColumnElement[bool]:
    """Return the condition that a worker is there."""
    return literal_column(f"({IS_LIVE})", Boolean)


def _rooms(session: Session, statement: TextClause) -> Mapping[str, Sequence[Room]]:
    rooms: dict[str, list[Room]] = {}
    for row in session.execute(statement):
        rooms.setdefault(row.pool, []).append(Room(row.memory_bytes, row.vram_bytes, row.scratch_bytes))
    return rooms


def _is_registered() -> ColumnElement[bool]:
    registered: ColumnElement[bool] = Worker.seen_at > clock.now() - clock.seconds(REGISTERED_SECONDS)
    return registered


def _running_by_worker() -> Subquery:
    return (
        select(Execution.worker_id, func.count().label("count"))
        .where(Execution.status == ExecutionStatus.RUNNING.value)
        .group_by(Execution.worker_id)
        .subquery()
    )
