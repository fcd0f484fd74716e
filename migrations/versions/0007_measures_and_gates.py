"""Evaluations keep what was lost against full precision, with intervals; jobs keep the gate that they are held to.

Revision: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("measures", postgresql.JSONB(), nullable=True))
    op.add_column("jobs", sa.Column("gate", postgresql.JSONB(), nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("jobs", "gate")
    op.drop_column("evaluations", "measures")
