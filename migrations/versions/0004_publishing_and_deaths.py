"""Where a job's result is published, and which work is seen outside; deaths in the index that claims read.

Revision: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("publish_to", sa.Text(), nullable=True))
    op.add_column("executions", sa.Column("is_external", sa.Boolean(), server_default="false", nullable=False))
    _index_claims(["ready_at", "memory_bytes", "vram_bytes", "scratch_bytes", "lost_count"])


def downgrade() -> None:
    _index_claims(["ready_at", "memory_bytes", "vram_bytes", "scratch_bytes"])
    op.drop_column("executions", "is_external")
    op.drop_column("jobs", "publish_to")


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
