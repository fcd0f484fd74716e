"""What a team asked for: jobs, their steps, and the events that tell their story."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.states import JobStatus, StepStatus, terminal
from db.tables.base import Base, CreatedAt, Json, JsonList, PrimaryId, Timestamp, one_of, sql_list
from db.tables.executions import Execution


class Job(Base):
    """One recipe on one source, with its evaluation and the conditions of its gate."""

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("status", JobStatus),
        CheckConstraint(
            f"(status IN ({sql_list(terminal(JobStatus))})) = (finished_at IS NOT NULL)", name="finished_at_if_terminal"
        ),
        CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="error_if_failed"),
        CheckConstraint("status <> 'queued' OR started_at IS NULL", name="queued_has_not_started"),
        CheckConstraint("priority BETWEEN -100 AND 100", name="priority_in_range"),
        Index("ix_jobs_team_id_created_at_id", "team_id", "created_at", "id"),
        Index("ix_jobs_labels", "labels", postgresql_using="gin"),
        Index("ix_jobs_team_id_status_created_at_id", "team_id", "status", "created_at", "id"),
        Index("ix_jobs_team_id_method_created_at_id", "team_id", "method", "created_at", "id"),
        # rescue looks for overdue jobs among the few that are not over.
        Index("ix_jobs_live", "status", postgresql_where=f"status NOT IN ({sql_list(terminal(JobStatus))})"),
    )

    id: Mapped[PrimaryId]
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    status: Mapped[str] = mapped_column(default=JobStatus.QUEUED.value)
    source: Mapped[str]
    method: Mapped[str]
    recipe: Mapped[Json]
    evaluation: Mapped[Json]
    gate: Mapped[JsonList] = mapped_column(server_default="[]")
    job_metadata: Mapped[Json] = mapped_column("metadata")
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    priority: Mapped[int] = mapped_column(default=0)
    max_runtime_seconds: Mapped[int | None]
    max_pending_seconds: Mapped[int | None]
    max_attempts: Mapped[int | None]
    wait_for_capacity: Mapped[bool] = mapped_column(server_default="false")
    publish_to: Mapped[str | None]
    error: Mapped[Json | None]
    event_count: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Timestamp | None]
    finished_at: Mapped[Timestamp | None]
    steps: Mapped[list["Step"]] = relationship(order_by="Step.position", back_populates="job")


class Step(Base):
    """One stage of one job; becomes ready when the steps it needs have succeeded."""

    __tablename__ = "steps"
    __table_args__ = (
        one_of("status", StepStatus),
        UniqueConstraint("job_id", "kind"),
        CheckConstraint(
            f"(status IN ({sql_list(terminal(StepStatus))})) = (finished_at IS NOT NULL)",
            name="finished_at_if_terminal",
        ),
        CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="error_if_failed"),
        CheckConstraint(
            "status NOT IN ('running', 'succeeded') OR execution_id IS NOT NULL", name="bound_once_running"
        ),
        CheckConstraint("status <> 'waiting' OR execution_id IS NULL", name="waiting_is_unbound"),
        Index("ix_steps_unbound", "id", postgresql_where="status = 'ready' AND execution_id IS NULL"),
        Index("ix_steps_execution_id", "execution_id"),
    )

    id: Mapped[PrimaryId]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    position: Mapped[int]
    kind: Mapped[str]
    pool: Mapped[str]
    needs: Mapped[list[str]] = mapped_column(ARRAY(Text))
    params: Mapped[Json]
    status: Mapped[str]
    execution_id: Mapped[str | None] = mapped_column(ForeignKey("executions.id"))
    reused: Mapped[bool] = mapped_column(default=False)
    error: Mapped[Json | None]
    started_at: Mapped[Timestamp | None]
    finished_at: Mapped[Timestamp | None]
    job: Mapped[Job] = relationship(back_populates="steps")
    execution: Mapped[Execution | None] = relationship()


class IdempotencyKey(Base):
    """A team's word that two requests are one: what was sent under the key, and the first answer, word for word."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        CheckConstraint("length(body_sha256) = 64", name="body_sha256_is_hex"),
        Index("ix_idempotency_keys_created_at", "created_at"),
    )

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    key: Mapped[PrimaryId]
    body_sha256: Mapped[str]
    answer: Mapped[Json]
    created_at: Mapped[CreatedAt]


class Event(Base):
    """Something that happened to a job, numbered from 1 without gaps under the job's row lock."""

    __tablename__ = "events"
    __table_args__ = (
        one_of("level", ["info", "warn", "error"]),
        one_of("type", ["message", "metrics", "state"]),
        Index("ix_events_created_at", "created_at"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[Json]
    created_at: Mapped[CreatedAt]
