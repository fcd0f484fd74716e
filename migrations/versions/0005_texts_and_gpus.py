"""Texts of teams, and a quota on them; work that needs a GPU, also in the index that claims read.

Revision: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "texts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("document_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("announced_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("format IN ('text', 'jsonl')", name=op.f("ck_texts_format_known")),
        sa.CheckConstraint("size_bytes > 0 AND document_count > 0", name=op.f("ck_texts_there_is_something")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_texts_team_id")),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_texts_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_texts")),
        sa.UniqueConstraint("team_id", "sha256", "format", name=op.f("uq_texts_team_id_sha256_format")),
    )
    op.create_index("ix_texts_sha256", "texts", ["sha256"], unique=False)
    op.create_index("ix_texts_team_id_created_at_id", "texts", ["team_id", "created_at", "id"], unique=False)
    op.create_index(
        "ix_texts_unfinished", "texts", ["announced_at"], unique=False, postgresql_where="stored_at IS NULL"
    )
    _name_quotas("'queued_jobs', 'running_cpu', 'running_gpu', 'texts'")
    op.add_column("executions", sa.Column("needs_gpu", sa.Boolean(), server_default="false", nullable=False))
    _index_claims(["ready_at", "memory_bytes", "vram_bytes", "scratch_bytes", "lost_count", "needs_gpu"])


def downgrade() -> None:
    _index_claims(["ready_at", "memory_bytes", "vram_bytes", "scratch_bytes", "lost_count"])
    op.drop_column("executions", "needs_gpu")
    op.execute("DELETE FROM team_quotas WHERE name = 'texts'")
    _name_quotas("'queued_jobs', 'running_cpu', 'running_gpu'")
    op.drop_table("texts")


def _name_quotas(known: str) -> None:
    name = op.f("ck_team_quotas_name_known")
    op.drop_constraint(name, "team_quotas", type_="check")
    op.create_check_constraint(name, "team_quotas", f"name IN ({known})")


def _index_claims(included: list[str]) -> None:
    op.drop_index("ix_executions_claim", table_name="executions", postgresql_where="status = 'ready'")
    op.create_index(
        "ix_executions_claim",
        "executions",
        ["pool", "team_id", sa.literal_column("priority DESC"), "queued_at", "id"],
        unique=False,
        postgresql_where="status = 'ready'",
        postgresql_include=included,
    )
