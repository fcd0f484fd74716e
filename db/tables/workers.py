"""Who works: the processes that claim, the pools that an operator has paused, and when rescue last looked."""

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.states import POOLS
from db.tables.base import Base, Bytes, CreatedAt, PrimaryId, Timestamp, one_of


class Worker(Base):
    """A process that claims work for one pool.

    ``memory_bytes`` is of the host; ``vram_bytes`` of each of its GPUs, 0 where it has none and its children compute on
    the CPU. A worker that is drained claims nothing. ``complaint`` says why one claims nothing by itself.
    """

    __tablename__ = "workers"
    __table_args__ = (one_of("pool", POOLS),)

    id: Mapped[PrimaryId]
    pool: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    device: Mapped[str]
    slots: Mapped[int]
    memory_bytes: Mapped[Bytes]
    vram_bytes: Mapped[Bytes] = mapped_column(server_default="0")
    scratch_bytes: Mapped[Bytes]
    started_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt]
    drained_at: Mapped[Timestamp | None]
    complaint: Mapped[str | None]
    stopped_at: Mapped[Timestamp | None]


class PausedPool(Base):
    """A pool of which no worker claims anything until the operator resumes it."""

    __tablename__ = "paused_pools"
    __table_args__ = (one_of("pool", POOLS),)

    pool: Mapped[PrimaryId]
    paused_at: Mapped[CreatedAt]


class RescueWatch(Base):
    """The one row by which everybody knows whether a lease that has run out is over.

    It is, once rescue has watched without a break for a whole lease: then its holder had time to renew it, and an
    outage of Postgres, or of rescue, takes nothing away from anybody.
    """

    __tablename__ = "rescue_watch"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    lease_seconds: Mapped[float]
    unbroken_since: Mapped[Timestamp]
    looked_at: Mapped[Timestamp]
