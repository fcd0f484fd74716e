"""Sweeps, and the jobs that are part of one.

Revision: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("preset", sa.Text(), nullable=True),
        sa.Column("request", postgresql.JSONB(none_as_null=True), nullable=False),
        sa.Column("warnings", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_sweeps_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
    )
    op.create_index("ix_sweeps_team_id_created_at_id", "sweeps", ["team_id", "created_at", "id"], unique=False)
    op.add_column("jobs", sa.Column("sweep_id", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("sweep_position", sa.Integer(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_sweep_id"), "jobs", "sweeps", ["sweep_id"], ["id"])
    op.create_check_constraint(
        op.f("ck_jobs_placed_in_its_sweep"), "jobs", "(sweep_id IS NULL) = (sweep_position IS NULL)"
    )
    op.create_index(
        "ix_jobs_sweep_id",
        "jobs",
        ["sweep_id", "sweep_position"],
        unique=False,
        postgresql_where="sweep_id IS NOT NULL",
    )


def downgrade() -> None:
    op.drop_column("jobs", "sweep_position")
    op.drop_column("jobs", "sweep_id")
    op.drop_table("sweeps")
