"""The first schema.

Revision: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_blobs_sha256_is_hex")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_table(
        "teams",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teams")),
        sa.UniqueConstraint("name", name=op.f("uq_teams_name")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("scratch_bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("pool IN ('cpu', 'gpu')", name=op.f("ck_workers_pool_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_api_keys_sha256_is_hex")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_api_keys_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
    )
    op.create_index(op.f("ix_api_keys_team_id"), "api_keys", ["team_id"], unique=False)
    op.create_table(
        "executions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("params", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("inputs", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("scratch_bytes", sa.BigInteger(), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failure_count", sa.Integer(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("facts", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name=op.f("ck_executions_error_if_failed")),
        sa.CheckConstraint(
            "(status = 'running') = (worker_id IS NOT NULL AND lease_expires_at IS NOT NULL)",
            name=op.f("ck_executions_leased_if_running"),
        ),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_executions_finished_at_if_terminal"),
        ),
        sa.CheckConstraint("lost_at IS NULL OR status = 'succeeded'", name=op.f("ck_executions_only_results_are_lost")),
        sa.CheckConstraint("pool IN ('cpu', 'gpu')", name=op.f("ck_executions_pool_known")),
        sa.CheckConstraint(
            "status IN ('ready', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_executions_status_known"),
        ),
        sa.CheckConstraint(
            "stop_requested_at IS NULL OR status IN ('running', 'cancelled')",
            name=op.f("ck_executions_only_running_is_stopped"),
        ),
        sa.CheckConstraint("length(key) = 64", name=op.f("ck_executions_key_is_hex")),
        sa.CheckConstraint(
            "token >= attempt AND failure_count BETWEEN 0 AND attempt", name=op.f("ck_executions_counters_agree")
        ),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_executions_team_id")),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name=op.f("fk_executions_worker_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
    )
    op.create_index(
        "ix_executions_claim",
        "executions",
        ["pool", "team_id", sa.literal_column("priority DESC"), "ready_at", "id"],
        unique=False,
        postgresql_where="status = 'ready'",
    )
    op.create_index(
        "ix_executions_running", "executions", ["lease_expires_at"], unique=False, postgresql_where="status = 'running'"
    )
    op.create_index(
        "uq_executions_key_reusable",
        "executions",
        ["key"],
        unique=True,
        postgresql_where="lost_at IS NULL AND status IN ('ready', 'running', 'succeeded')",
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("recipe", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("evaluation", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("metadata", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("max_runtime_seconds", sa.Integer(), nullable=True),
        sa.Column("max_pending_seconds", sa.Integer(), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name=op.f("ck_jobs_error_if_failed")),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_jobs_finished_at_if_terminal"),
        ),
        sa.CheckConstraint("status <> 'queued' OR started_at IS NULL", name=op.f("ck_jobs_queued_has_not_started")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_jobs_status_known"),
        ),
        sa.CheckConstraint("priority BETWEEN -100 AND 100", name=op.f("ck_jobs_priority_in_range")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_jobs_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        "ix_jobs_live",
        "jobs",
        ["status"],
        unique=False,
        postgresql_where="status NOT IN ('succeeded', 'failed', 'cancelled')",
    )
    op.create_index("ix_jobs_team_id_created_at_id", "jobs", ["team_id", "created_at", "id"], unique=False)
    op.create_table(
        "team_usage",
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("pool_seconds", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_team_usage_team_id")),
        sa.PrimaryKeyConstraint("team_id", "pool", name=op.f("pk_team_usage")),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("role IN ('snapshot', 'intermediate', 'result')", name=op.f("ck_artifacts_role_known")),
        sa.CheckConstraint("length(digest) = 64", name=op.f("ck_artifacts_digest_is_hex")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_artifacts_execution_id")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_artifacts_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("execution_id", name=op.f("uq_artifacts_execution_id")),
    )
    op.create_table(
        "blob_intents",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_blob_intents_execution_id")),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_blob_intents_sha256")),
        sa.PrimaryKeyConstraint("sha256", "execution_id", "token", name=op.f("pk_blob_intents")),
    )
    op.create_index("ix_blob_intents_execution_id", "blob_intents", ["execution_id"], unique=False)
    op.create_table(
        "evaluations",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("perplexity", sa.Double(), nullable=False),
        sa.Column("window_count", sa.Integer(), nullable=False),
        sa.Column("token_count", sa.Integer(), nullable=False),
        sa.Column("window_nll", postgresql.ARRAY(sa.Float(precision=53)), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "perplexity > 0 AND perplexity < 'Infinity'", name=op.f("ck_evaluations_perplexity_is_finite")
        ),
        sa.CheckConstraint("window_count > 0 AND token_count > 0", name=op.f("ck_evaluations_something_was_scored")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_evaluations_execution_id")),
        sa.PrimaryKeyConstraint("execution_id", "domain", name=op.f("pk_evaluations")),
    )
    op.create_table(
        "events",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("level IN ('info', 'warn', 'error')", name=op.f("ck_events_level_known")),
        sa.CheckConstraint("type IN ('message', 'metrics', 'state')", name=op.f("ck_events_type_known")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_events_job_id")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_events")),
    )
    op.create_table(
        "log_chunks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("octet_length(text) <= 65536", name=op.f("ck_log_chunks_at_most_64_kib")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_log_chunks_execution_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_chunks")),
    )
    op.create_index("ix_log_chunks_execution_id_id", "log_chunks", ["execution_id", "id"], unique=False)
    op.create_table(
        "steps",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("needs", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("params", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=True),
        sa.Column("reused", sa.Boolean(), nullable=False),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name=op.f("ck_steps_error_if_failed")),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'cancelled', 'skipped')) = (finished_at IS NOT NULL)",
            name=op.f("ck_steps_finished_at_if_terminal"),
        ),
        sa.CheckConstraint("status <> 'waiting' OR execution_id IS NULL", name=op.f("ck_steps_waiting_is_unbound")),
        sa.CheckConstraint(
            "status IN ('waiting', 'ready', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')",
            name=op.f("ck_steps_status_known"),
        ),
        sa.CheckConstraint(
            "status NOT IN ('running', 'succeeded') OR execution_id IS NOT NULL",
            name=op.f("ck_steps_bound_once_running"),
        ),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_steps_execution_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_steps_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_steps")),
        sa.UniqueConstraint("job_id", "kind", name=op.f("uq_steps_job_id_kind")),
    )
    op.create_index("ix_steps_execution_id", "steps", ["execution_id"], unique=False)
    op.create_index(
        "ix_steps_unbound", "steps", ["id"], unique=False, postgresql_where="status = 'ready' AND execution_id IS NULL"
    )
    op.create_table(
        "artifact_files",
        sa.Column("artifact_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name=op.f("fk_artifact_files_artifact_id")),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_artifact_files_sha256")),
        sa.PrimaryKeyConstraint("artifact_id", "name", name=op.f("pk_artifact_files")),
    )
    op.create_index("ix_artifact_files_sha256", "artifact_files", ["sha256"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_artifact_files_sha256", table_name="artifact_files")
    op.drop_table("artifact_files")
    op.drop_index("ix_steps_unbound", table_name="steps", postgresql_where="status = 'ready' AND execution_id IS NULL")
    op.drop_index("ix_steps_execution_id", table_name="steps")
    op.drop_table("steps")
    op.drop_index("ix_log_chunks_execution_id_id", table_name="log_chunks")
    op.drop_table("log_chunks")
    op.drop_table("events")
    op.drop_table("evaluations")
    op.drop_index("ix_blob_intents_execution_id", table_name="blob_intents")
    op.drop_table("blob_intents")
    op.drop_table("artifacts")
    op.drop_table("team_usage")
    op.drop_index("ix_jobs_team_id_created_at_id", table_name="jobs")
    op.drop_index(
        "ix_jobs_live", table_name="jobs", postgresql_where="status NOT IN ('succeeded', 'failed', 'cancelled')"
    )
    op.drop_table("jobs")
    op.drop_index(
        "uq_executions_key_reusable",
        table_name="executions",
        postgresql_where="lost_at IS NULL AND status IN ('ready', 'running', 'succeeded')",
    )
    op.drop_index("ix_executions_running", table_name="executions", postgresql_where="status = 'running'")
    op.drop_index("ix_executions_claim", table_name="executions", postgresql_where="status = 'ready'")
    op.drop_table("executions")
    op.drop_index(op.f("ix_api_keys_team_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("workers")
    op.drop_table("teams")
    op.drop_table("blobs")
