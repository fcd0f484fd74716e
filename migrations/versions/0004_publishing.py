"""Where a job's result is published, and which work is seen outside.

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


def downgrade() -> None:
    op.drop_column("executions", "is_external")
    op.drop_column("jobs", "publish_to")
