"""What jobs want benchmarked; work that is alone on its host, also in the index that claims read.

Older code goes on beside it, and does not know that such work must be alone.

Revision: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INCLUDED = ["ready_at", "memory_bytes", "vram_bytes", "scratch_bytes", "lost_count", "needs_gpu"]


def upgrade() -> None:
    op.add_column("jobs", sa.Column("benchmark", postgresql.JSONB(), nullable=True))
    op.add_column("executions", sa.Column("is_exclusive", sa.Boolean(), server_default="false", nullable=False))
    op.create_index(
        "ix_executions_exclusive",
        "executions",
        ["worker_id"],
        unique=False,
        postgresql_where="status = 'running' AND is_exclusive",
    )
    _index_claims([*INCLUDED, "is_exclusive"])


def downgrade() -> None:
    _index_claims(INCLUDED)
    op.drop_index(
        "ix_executions_exclusive",
        table_name="executions",
        postgresql_where="status = 'running' AND is_exclusive",
    )
    op.drop_column("executions", "is_exclusive")
    op.drop_column("jobs", "benchmark")


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
