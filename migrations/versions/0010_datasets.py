"""Texts become datasets, of kinds: the table, the quota on them, and their names; rows and their ids stay.

What was JSONL is called ``documents``: what its lines are is in the store, and not here. It is read by the line, as
before, also where some lines are conversations.

The release before goes on beside it through the view ``texts``, but for uploads: its API is not ready at this schema,
and takes none after a moment. A later migration drops the view.

Revision: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KINDS = "'text', 'documents', 'chat', 'completion', 'multiple_choice', 'reference'"
CONSTRAINTS = ("pk", "fk_team_id", "fk_sha256", "ck_there_is_something")
INDEXES = ("sha256", "team_id_created_at_id", "unfinished")
VIEW = """
    CREATE VIEW texts AS
    SELECT id, team_id, name, CASE kind WHEN 'text' THEN 'text' ELSE 'jsonl' END AS format, sha256, size_bytes,
        document_count, created_at, announced_at, stored_at
    FROM datasets
"""
# Plain text and JSONL of the same bytes may both be there, but of JSONL one kind alone.
ONE_OF_EACH = """
    DELETE FROM datasets WHERE kind <> 'text' AND id NOT IN (
        SELECT min(id) FROM datasets WHERE kind <> 'text' GROUP BY team_id, sha256
    )
"""


def upgrade() -> None:
    _rename("texts", "datasets")
    op.alter_column("datasets", "format", new_column_name="kind")
    op.drop_constraint(op.f("ck_texts_format_known"), "datasets", type_="check")
    op.execute("UPDATE datasets SET kind = 'documents' WHERE kind = 'jsonl'")
    op.create_check_constraint(op.f("ck_datasets_kind_known"), "datasets", f"kind IN ({KINDS})")
    _rename_constraint("datasets", "uq_texts_team_id_sha256_format", "uq_datasets_team_id_sha256_kind")
    op.execute(VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW texts")
    op.execute(ONE_OF_EACH)
    _rename_constraint("datasets", "uq_datasets_team_id_sha256_kind", "uq_texts_team_id_sha256_format")
    op.drop_constraint(op.f("ck_datasets_kind_known"), "datasets", type_="check")
    op.execute("UPDATE datasets SET kind = 'jsonl' WHERE kind <> 'text'")
    op.create_check_constraint(op.f("ck_texts_format_known"), "datasets", "kind IN ('text', 'jsonl')")
    op.alter_column("datasets", "kind", new_column_name="format")
    _rename("datasets", "texts")


def _rename(old: str, new: str) -> None:
    op.rename_table(old, new)
    for name in CONSTRAINTS:
        kind, _, rest = name.partition("_")
        tail = f"_{rest}" if rest else ""
        _rename_constraint(new, f"{kind}_{old}{tail}", f"{kind}_{new}{tail}")
    for name in INDEXES:
        op.execute(f"ALTER INDEX ix_{old}_{name} RENAME TO ix_{new}_{name}")
    name = op.f("ck_team_quotas_name_known")
    op.drop_constraint(name, "team_quotas", type_="check")
    op.execute(sa.text("UPDATE team_quotas SET name = :new WHERE name = :old").bindparams(old=old, new=new))
    op.create_check_constraint(name, "team_quotas", f"name IN ('queued_jobs', 'running_cpu', 'running_gpu', '{new}')")


def _rename_constraint(table: str, old: str, new: str) -> None:
    op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")
