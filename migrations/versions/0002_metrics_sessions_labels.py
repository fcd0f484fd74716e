"""Metrics of modules, portal sessions, idempotency keys; labels and retries of jobs.

Revision: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metrics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("module", sa.Text(), nullable=False),
        sa.Column("values", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_metrics_execution_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metrics")),
    )
    op.create_index("ix_metrics_execution_id_id", "metrics", ["execution_id", "id"], unique=False)
    op.create_table(
        "portal_sessions",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_portal_sessions_sha256_is_hex")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_portal_sessions_key_id")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_portal_sessions")),
    )
    op.create_index(op.f("ix_portal_sessions_key_id"), "portal_sessions", ["key_id"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("answer", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("length(body_sha256) = 64", name=op.f("ck_idempotency_keys_body_sha256_is_hex")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_idempotency_keys_team_id")),
        sa.PrimaryKeyConstraint("team_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
    op.add_column("jobs", sa.Column("labels", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False))
    op.add_column("jobs", sa.Column("retry_of", sa.Text(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_retry_of"), "jobs", "jobs", ["retry_of"], ["id"])
    op.create_index("ix_jobs_labels", "jobs", ["labels"], unique=False, postgresql_using="gin")


def downgrade() -> None:
    op.drop_index("ix_jobs_labels", table_name="jobs", postgresql_using="gin")
    op.drop_constraint(op.f("fk_jobs_retry_of"), "jobs", type_="foreignkey")
    op.drop_column("jobs", "retry_of")
    op.drop_column("jobs", "labels")
    op.drop_index("ix_idempotency_keys_created_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index(op.f("ix_portal_sessions_key_id"), table_name="portal_sessions")
    op.drop_table("portal_sessions")
    op.drop_index("ix_metrics_execution_id_id", table_name="metrics")
    op.drop_table("metrics")
