"""The running of work: executions found by their key, the workers that hold their leases, and what they logged."""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.states import REUSABLE_EXECUTION, ExecutionStatus, terminal
from db.tables.artifacts import Artifact, Evaluation
from db.tables.base import Base, Bytes, CreatedAt, Json, PrimaryId, Timestamp, one_of, sql_list

POOLS = ["cpu", "gpu"]
# The predicate of the unique index; literal, since a prepared statement with parameters in it would not match.
IS_REUSABLE = f"lost_at IS NULL AND status IN ({sql_list([status.value for status in REUSABLE_EXECUTION])})"


class Worker(Base):
    """A process that claims work for one pool."""

    __tablename__ = "workers"
    __table_args__ = (one_of("pool", POOLS),)

    id: Mapped[PrimaryId]
    pool: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    device: Mapped[str]
    slots: Mapped[int]
    memory_bytes: Mapped[Bytes]
    scratch_bytes: Mapped[Bytes]
    started_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt]
    stopped_at: Mapped[Timestamp | None]


class Execution(Base):
    """One piece of work under its content key, done once for all the steps that wait on it.

    ``token`` only grows: a worker that comes back after its lease was given away holds an older one. Every claim is an
    ``attempt``; only those that failed count against the attempts that are allowed.
    ``lost_at`` is set when a file of its artifact has vanished from the store, or verification has rejected it: it is
    not reused any more.
    ``inputs`` names artifacts by what the step's kind calls them.
    """

    __tablename__ = "executions"
    __table_args__ = (
        one_of("status", ExecutionStatus),
        one_of("pool", POOLS),
        CheckConstraint("length(key) = 64", name="key_is_hex"),
        CheckConstraint(
            "(status = 'running') = (worker_id IS NOT NULL AND lease_expires_at IS NOT NULL)", name="leased_if_running"
        ),
        CheckConstraint(
            f"(status IN ({sql_list(terminal(ExecutionStatus))})) = (finished_at IS NOT NULL)",
            name="finished_at_if_terminal",
        ),
        CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="error_if_failed"),
        CheckConstraint(
            "stop_requested_at IS NULL OR status IN ('running', 'cancelled')", name="only_running_is_stopped"
        ),
        CheckConstraint("token >= attempt AND failure_count BETWEEN 0 AND attempt", name="counters_agree"),
        Index(
            "uq_executions_key_reusable",
            "key",
            unique=True,
            postgresql_where=IS_REUSABLE,
        ),
        # What a claim reads: the head of each team's queue.
        Index(
            "ix_executions_claim",
            "pool",
            "team_id",
            text("priority DESC"),
            "ready_at",
            "id",
            postgresql_where="status = 'ready'",
        ),
        CheckConstraint("lost_at IS NULL OR status = 'succeeded'", name="only_results_are_lost"),
        Index("ix_executions_running", "lease_expires_at", postgresql_where="status = 'running'"),
    )

    id: Mapped[PrimaryId]
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    key: Mapped[str]
    kind: Mapped[str]
    pool: Mapped[str]
    params: Mapped[Json]
    inputs: Mapped[Json]
    status: Mapped[str] = mapped_column(default=ExecutionStatus.READY.value)
    priority: Mapped[int]
    memory_bytes: Mapped[Bytes]
    scratch_bytes: Mapped[Bytes]
    ready_at: Mapped[CreatedAt]
    attempt: Mapped[int] = mapped_column(default=0)
    failure_count: Mapped[int] = mapped_column(default=0)
    token: Mapped[int] = mapped_column(BigInteger, default=0)
    worker_id: Mapped[str | None] = mapped_column(ForeignKey("workers.id"))
    lease_expires_at: Mapped[Timestamp | None]
    stop_requested_at: Mapped[Timestamp | None]
    lost_at: Mapped[Timestamp | None]
    progress: Mapped[Json | None]
    facts: Mapped[Json | None]
    error: Mapped[Json | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Timestamp | None]
    finished_at: Mapped[Timestamp | None]
    artifact: Mapped[Artifact | None] = relationship()
    evaluations: Mapped[list[Evaluation]] = relationship()


class LogChunk(Base):
    """A piece of what an attempt printed, at most 64 KiB of text."""

    __tablename__ = "log_chunks"
    __table_args__ = (
        CheckConstraint("octet_length(text) <= 65536", name="at_most_64_kib"),
        Index("ix_log_chunks_execution_id_id", "execution_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id"))
    attempt: Mapped[int]
    text: Mapped[str]
    created_at: Mapped[CreatedAt]


class Metric(Base):
    """What an attempt measured on its way: for one module of one layer, named values such as its ``loss``."""

    __tablename__ = "metrics"
    __table_args__ = (Index("ix_metrics_execution_id_id", "execution_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id"))
    attempt: Mapped[int]
    layer: Mapped[int]
    module: Mapped[str]
    values: Mapped[Json]
    created_at: Mapped[CreatedAt]
