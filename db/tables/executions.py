"""The running of work: executions found by their key, their attempts, and what those logged and measured."""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.states import POOLS, REUSABLE_EXECUTION, AttemptOutcome, ExecutionStatus, terminal
from db.tables.artifacts import Artifact, Evaluation
from db.tables.base import Base, Bytes, CreatedAt, Json, PrimaryId, Timestamp, one_of, sql_list

# The predicate of the unique index; literal, since a prepared statement with parameters in it would not match.
IS_REUSABLE = f"lost_at IS NULL AND status IN ({sql_list([status.value for status in REUSABLE_EXECUTION])})"


class Execution(Base):
    """One piece of work under its content key, done once for all the steps that wait on it.

    ``token`` only grows: a worker that comes back after its lease was given away holds an older one. Every claim is an
    ``attempt``; only those that failed count against the attempts that are allowed, and those whose worker died are
    counted once more, in ``lost_count``.
    ``queued_at`` is when the oldest of the jobs that want it was submitted: it decides the order. ``ready_at`` lies in
    the future while a failed attempt is waited out.
    ``memory_bytes`` is of the host, ``vram_bytes`` of a GPU: forecasts, as ``scratch_bytes``. What ``needs_gpu`` is not
    claimed for a child that computes on the CPU.
    ``passed_over_at`` is since when smaller work overtakes it; ``reserved_by`` the worker whose device is kept for it.
    ``lost_at`` is set when a file of its artifact has vanished from the store, or verification has rejected it: it is
    not reused any more.
    What ``is_exclusive`` runs alone on its host: by its kind, or since too many workers have died over it.
    What ``is_external`` is seen by others and cannot be taken back: once begun, it is not cancelled.
    ``inputs`` names artifacts, and datasets of the team, by what the step's kind calls them.
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
        CheckConstraint(
            "token >= attempt AND failure_count BETWEEN 0 AND attempt AND lost_count BETWEEN 0 AND failure_count",
            name="counters_agree",
        ),
        CheckConstraint(
            "reserved_by IS NULL OR status = 'ready' AND reserved_device IS NOT NULL", name="only_ready_is_reserved"
        ),
        Index(
            "uq_executions_key_reusable",
            "key",
            unique=True,
            postgresql_where=IS_REUSABLE,
        ),
        # What a claim reads: the head of each team's queue, past what does not fit.
        Index(
            "ix_executions_claim",
            "pool",
            "team_id",
            text("priority DESC"),
            "queued_at",
            "id",
            postgresql_where="status = 'ready'",
            postgresql_include=[
                *("ready_at", "memory_bytes", "vram_bytes", "scratch_bytes"),
                *("lost_count", "needs_gpu", "is_exclusive"),
            ],
        ),
        # What every claim looks at: seldom there is any.
        Index("ix_executions_exclusive", "worker_id", postgresql_where="status = 'running' AND is_exclusive"),
        CheckConstraint("lost_at IS NULL OR status = 'succeeded'", name="only_results_are_lost"),
        Index("ix_executions_running", "lease_expires_at", postgresql_where="status = 'running'"),
        # What quotas count.
        Index("ix_executions_running_of_team", "team_id", "pool", postgresql_where="status = 'running'"),
        Index("ix_executions_worker_id", "worker_id", postgresql_where="worker_id IS NOT NULL"),
        Index("ix_executions_reserved", "reserved_by", "reserved_device", postgresql_where="reserved_by IS NOT NULL"),
    )

    id: Mapped[PrimaryId]
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    key: Mapped[str]
    kind: Mapped[str]
    pool: Mapped[str]
    params: Mapped[Json]
    inputs: Mapped[Json]
    status: Mapped[str] = mapped_column(default=ExecutionStatus.READY.value)
    is_external: Mapped[bool] = mapped_column(server_default="false")
    is_exclusive: Mapped[bool] = mapped_column(server_default="false")
    priority: Mapped[int]
    memory_bytes: Mapped[Bytes]
    vram_bytes: Mapped[Bytes] = mapped_column(server_default="0")
    scratch_bytes: Mapped[Bytes]
    needs_gpu: Mapped[bool] = mapped_column(server_default="false")
    queued_at: Mapped[CreatedAt]
    ready_at: Mapped[CreatedAt]
    passed_over_at: Mapped[Timestamp | None]
    reserved_by: Mapped[str | None] = mapped_column(ForeignKey("workers.id"))
    reserved_device: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=0)
    failure_count: Mapped[int] = mapped_column(default=0)
    lost_count: Mapped[int] = mapped_column(default=0, server_default="0")
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


class Attempt(Base):
    """One claim of an execution, what it was forecast to take and took, and how it ended.

    Stays when the execution is tried again. The forecasts are the execution's as they held at the claim: on a CPU all
    memory is the host's. They are NULL where an earlier version claimed; a peak where nobody measured, and of a GPU's
    memory also where none was used.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        one_of("outcome", AttemptOutcome),
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="ended_with_an_outcome"),
        CheckConstraint("error IS NULL OR outcome IN ('failed', 'lost')", name="error_if_it_went_wrong"),
        Index("ix_attempts_started_at", "started_at"),
    )

    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[str]
    host: Mapped[str]
    device: Mapped[str]
    started_at: Mapped[CreatedAt]
    ended_at: Mapped[Timestamp | None]
    outcome: Mapped[str | None]
    error: Mapped[Json | None]
    forecast_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    forecast_vram_bytes: Mapped[int | None] = mapped_column(BigInteger)
    forecast_scratch_bytes: Mapped[int | None] = mapped_column(BigInteger)
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    peak_vram_bytes: Mapped[int | None] = mapped_column(BigInteger)
    peak_scratch_bytes: Mapped[int | None] = mapped_column(BigInteger)


class CheckpointFile(Base):
    """A file from which an execution that was broken off can go on; pins its blob until the execution is over."""

    __tablename__ = "checkpoint_files"
    __table_args__ = (Index("ix_checkpoint_files_sha256", "sha256"),)

    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"))
    size_bytes: Mapped[Bytes]


class LogChunk(Base):
    """A piece of what an attempt printed, at most 64 KiB of text.

    ``offset_bytes`` is where in the attempt's log it begins, NULL where an earlier version wrote it.
    """

    __tablename__ = "log_chunks"
    __table_args__ = (
        UniqueConstraint("execution_id", "attempt", "offset_bytes"),
        CheckConstraint("octet_length(text) <= 65536", name="at_most_64_kib"),
        Index("ix_log_chunks_execution_id_id", "execution_id", "id"),
        Index("ix_log_chunks_created_at", "created_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id"))
    attempt: Mapped[int]
    offset_bytes: Mapped[int | None] = mapped_column(BigInteger)
    text: Mapped[str]
    created_at: Mapped[CreatedAt]


class Metric(Base):
    """What an attempt measured on its way: for one module of one layer, named values such as its ``loss``.

    ``number`` counts what the attempt has measured, from 0; NULL where an earlier version wrote it.
    """

    __tablename__ = "metrics"
    __table_args__ = (
        UniqueConstraint("execution_id", "attempt", "number"),
        Index("ix_metrics_execution_id_id", "execution_id", "id"),
        Index("ix_metrics_created_at", "created_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    execution_id: Mapped[str] = mapped_column(ForeignKey("executions.id"))
    attempt: Mapped[int]
    number: Mapped[int | None]
    layer: Mapped[int]
    module: Mapped[str]
    values: Mapped[Json]
    created_at: Mapped[CreatedAt]
