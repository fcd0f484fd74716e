"""Datasets may be of kind ``code``: the beginning of a program, and its tests.

The release before goes on beside it: it neither makes rows of that kind nor is ready to list them. Taken back, they are
deleted, since their lines are of no kind that it knows; their bytes are collected as garbage.

Revision: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KINDS = "'text', 'documents', 'chat', 'completion', 'multiple_choice', 'reference'"


def upgrade() -> None:
    _allow(f"{KINDS}, 'code'")


def downgrade() -> None:
    op.execute("DELETE FROM datasets WHERE kind = 'code'")
    _allow(KINDS)


def _allow(kinds: str) -> None:
    name = op.f("ck_datasets_kind_known")
    op.drop_constraint(name, "datasets", type_="check")
    op.create_check_constraint(name, "datasets", f"kind IN ({kinds})")
