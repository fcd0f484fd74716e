"""Texts become datasets: the table, the quota on them, and names; rows and their ids stay.

The release before does not know the table's new name: stop its API, workers, dispatch and rescue before this runs, and
start this release's after it. No row is written anew, and no index is built.

Revision: 0010
Revises: 0006
"""

from alembic import op

revision = "0010"
down_revision = "0006"
branch_labels = None
depends_on = None

CONSTRAINTS = ("pk", "fk_team_id", "fk_sha256", "ck_format_known", "ck_there_is_something", "uq_team_id_sha256_format")
INDEXES = ("sha256", "team_id_created_at_id", "unfinished")


def upgrade() -> None:
    _rename("texts", "datasets")


def downgrade() -> None:
    _rename("datasets", "texts")


def _rename(old: str, new: str) -> None:
    op.rename_table(old, new)
    for name in CONSTRAINTS:
        kind, _, rest = name.partition("_")
        op.execute(f"ALTER TABLE {new} RENAME CONSTRAINT {_named(kind, old, rest)} TO {_named(kind, new, rest)}")
    for name in INDEXES:
        op.execute(f"ALTER INDEX ix_{old}_{name} RENAME TO ix_{new}_{name}")
    _rename_quota(old, new)


def _named(kind: str, table: str, rest: str) -> str:
    return "_".join(part for part in (kind, table, rest) if part)


def _rename_quota(old: str, new: str) -> None:
    name = op.f("ck_team_quotas_name_known")
    op.drop_constraint(name, "team_quotas", type_="check")
    op.execute(f"UPDATE team_quotas SET name = '{new}' WHERE name = '{old}'")  # noqa: S608 - both are written above
    op.create_check_constraint(name, "team_quotas", f"name IN ('queued_jobs', 'running_cpu', 'running_gpu', '{new}')")
