"""Attempts keep what was forecast for them, and the most that they took of a GPU's memory and of the scratch disk.

Revision: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = (
    "forecast_memory_bytes",
    "forecast_vram_bytes",
    "forecast_scratch_bytes",
    "peak_vram_bytes",
    "peak_scratch_bytes",
)


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("attempts", sa.Column(column, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for column in reversed(COLUMNS):
        op.drop_column("attempts", column)
