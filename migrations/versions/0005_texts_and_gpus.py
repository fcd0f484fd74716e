"""Work that needs a GPU, also in the index that claims read.
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
    op.add_column("executions", sa.Column("needs_gpu", sa.Boolean(), server_default="false", nullable=False))
    _index_claims(["ready_at", "memory_bytes", "vram_bytes", "scratch_bytes", "lost_count", "needs_gpu"])


def downgrade() -> None:
    _index_claims(["ready_at", "memory_bytes", "vram_bytes", "scratch_bytes", "lost_count"])
    op.drop_column("executions", "needs_gpu")


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
