"""Attempts, checkpoints, quotas, reservations; pools that are paused and workers that are drained; who watches leases.

Revision: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "paused_pools",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("pool IN ('cpu', 'gpu')", name=op.f("ck_paused_pools_pool_known")),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_paused_pools")),
    )
    op.create_table(
        "rescue_watch",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("lease_seconds", sa.Double(), nullable=False),
        sa.Column("unbroken_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_rescue_watch_only_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rescue_watch")),
    )
    op.create_table(
        "team_quotas",
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("maximum", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "name IN ('queued_jobs', 'running_cpu', 'running_gpu')", name=op.f("ck_team_quotas_name_known")
        ),
        sa.CheckConstraint("maximum >= 0", name=op.f("ck_team_quotas_maximum_is_a_count")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_team_quotas_team_id")),
        sa.PrimaryKeyConstraint("team_id", "name", name=op.f("pk_team_quotas")),
    )
    op.create_table(
        "attempts",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "error IS NULL OR outcome IN ('failed', 'lost')", name=op.f("ck_attempts_error_if_it_went_wrong")
        ),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'lost', 'released', 'cancelled')",
            name=op.f("ck_attempts_outcome_known"),
        ),
        sa.CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name=op.f("ck_attempts_ended_with_an_outcome")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_attempts_execution_id")),
        sa.PrimaryKeyConstraint("execution_id", "number", name=op.f("pk_attempts")),
    )
    op.create_index("ix_attempts_started_at", "attempts", ["started_at"], unique=False)
    op.create_table(
        "checkpoint_files",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_checkpoint_files_execution_id")),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_checkpoint_files_sha256")),
        sa.PrimaryKeyConstraint("execution_id", "name", name=op.f("pk_checkpoint_files")),
    )
    op.create_index("ix_checkpoint_files_sha256", "checkpoint_files", ["sha256"], unique=False)
    op.create_index("ix_events_created_at", "events", ["created_at"], unique=False)
    op.add_column("executions", sa.Column("vram_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column(
        "executions",
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.add_column("executions", sa.Column("passed_over_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("executions", sa.Column("reserved_by", sa.Text(), nullable=True))
    op.add_column("executions", sa.Column("reserved_device", sa.Text(), nullable=True))
    op.add_column("executions", sa.Column("lost_count", sa.Integer(), server_default="0", nullable=False))
    op.drop_index(op.f("ix_executions_claim"), table_name="executions", postgresql_where="(status = 'ready'::text)")
    op.create_index(
        "ix_executions_claim",
        "executions",
        ["pool", "team_id", sa.literal_column("priority DESC"), "queued_at", "id"],
        unique=False,
        postgresql_where="status = 'ready'",
        postgresql_include=["ready_at", "memory_bytes", "vram_bytes", "scratch_bytes"],
    )
    op.create_index(
        "ix_executions_reserved",
        "executions",
        ["reserved_by", "reserved_device"],
        unique=False,
        postgresql_where="reserved_by IS NOT NULL",
    )
    op.create_index(
        "ix_executions_running_of_team",
        "executions",
        ["team_id", "pool"],
        unique=False,
        postgresql_where="status = 'running'",
    )
    op.create_index(
        "ix_executions_worker_id", "executions", ["worker_id"], unique=False, postgresql_where="worker_id IS NOT NULL"
    )
    op.create_foreign_key(op.f("fk_executions_reserved_by"), "executions", "workers", ["reserved_by"], ["id"])
    op.add_column("jobs", sa.Column("max_attempts", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("wait_for_capacity", sa.Boolean(), server_default="false", nullable=False))
    op.create_index(
        "ix_jobs_team_id_status_created_at_id", "jobs", ["team_id", "status", "created_at", "id"], unique=False
    )
    op.create_index(
        "ix_jobs_team_id_method_created_at_id", "jobs", ["team_id", "method", "created_at", "id"], unique=False
    )
    op.add_column("blobs", sa.Column("in_artifact", sa.Boolean(), server_default="false", nullable=False))
    op.execute("UPDATE blobs SET in_artifact = true WHERE sha256 IN (SELECT sha256 FROM artifact_files)")
    op.create_index(
        "ix_blobs_in_no_artifact", "blobs", ["created_at"], unique=False, postgresql_where="NOT in_artifact"
    )
    op.add_column("log_chunks", sa.Column("offset_bytes", sa.BigInteger(), nullable=True))
    op.create_unique_constraint(
        op.f("uq_log_chunks_execution_id_attempt_offset_bytes"),
        "log_chunks",
        ["execution_id", "attempt", "offset_bytes"],
    )
    op.create_index("ix_log_chunks_created_at", "log_chunks", ["created_at"], unique=False)
    op.add_column("metrics", sa.Column("number", sa.Integer(), nullable=True))
    op.create_unique_constraint(
        op.f("uq_metrics_execution_id_attempt_number"), "metrics", ["execution_id", "attempt", "number"]
    )
    op.create_index("ix_metrics_created_at", "metrics", ["created_at"], unique=False)
    op.add_column("workers", sa.Column("vram_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("workers", sa.Column("drained_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("workers", sa.Column("complaint", sa.Text(), nullable=True))
    op.drop_constraint(op.f("ck_executions_counters_agree"), "executions", type_="check")
    op.create_check_constraint(
        op.f("ck_executions_counters_agree"),
        "executions",
        "token >= attempt AND failure_count BETWEEN 0 AND attempt AND lost_count BETWEEN 0 AND failure_count",
    )
    op.create_check_constraint(
        op.f("ck_executions_only_ready_is_reserved"),
        "executions",
        "reserved_by IS NULL OR status = 'ready' AND reserved_device IS NOT NULL",
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_executions_only_ready_is_reserved"), "executions", type_="check")
    op.drop_constraint(op.f("ck_executions_counters_agree"), "executions", type_="check")
    op.create_check_constraint(
        op.f("ck_executions_counters_agree"),
        "executions",
        "token >= attempt AND failure_count BETWEEN 0 AND attempt",
    )
    op.drop_column("workers", "complaint")
    op.drop_column("workers", "drained_at")
    op.drop_column("workers", "vram_bytes")
    op.drop_index("ix_metrics_created_at", table_name="metrics")
    op.drop_column("metrics", "number")
    op.drop_index("ix_log_chunks_created_at", table_name="log_chunks")
    op.drop_index("ix_blobs_in_no_artifact", table_name="blobs", postgresql_where="NOT in_artifact")
    op.drop_column("blobs", "in_artifact")
    op.drop_index("ix_jobs_team_id_method_created_at_id", table_name="jobs")
    op.drop_column("log_chunks", "offset_bytes")
    op.drop_index("ix_jobs_team_id_status_created_at_id", table_name="jobs")
    op.drop_column("jobs", "wait_for_capacity")
    op.drop_column("jobs", "max_attempts")
    op.drop_constraint(op.f("fk_executions_reserved_by"), "executions", type_="foreignkey")
    op.drop_index("ix_executions_worker_id", table_name="executions", postgresql_where="worker_id IS NOT NULL")
    op.drop_index("ix_executions_running_of_team", table_name="executions", postgresql_where="status = 'running'")
    op.drop_index("ix_executions_reserved", table_name="executions", postgresql_where="reserved_by IS NOT NULL")
    op.drop_index("ix_executions_claim", table_name="executions", postgresql_where="status = 'ready'")
    op.create_index(
        op.f("ix_executions_claim"),
        "executions",
        ["pool", "team_id", sa.literal_column("priority DESC"), "ready_at", "id"],
        unique=False,
        postgresql_where="(status = 'ready'::text)",
    )
    op.drop_column("executions", "lost_count")
    op.drop_column("executions", "reserved_device")
    op.drop_column("executions", "reserved_by")
    op.drop_column("executions", "passed_over_at")
    op.drop_column("executions", "queued_at")
    op.drop_column("executions", "vram_bytes")
    op.drop_index("ix_events_created_at", table_name="events")
    op.drop_index("ix_checkpoint_files_sha256", table_name="checkpoint_files")
    op.drop_table("checkpoint_files")
    op.drop_index("ix_attempts_started_at", table_name="attempts")
    op.drop_table("attempts")
    op.drop_table("team_quotas")
    op.drop_table("rescue_watch")
    op.drop_table("paused_pools")
