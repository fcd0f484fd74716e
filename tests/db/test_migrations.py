"""The newest migration can be taken back and made again with rows there, and older code goes on beside it."""

import importlib
from functools import partial
from types import ModuleType

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

from core.dataset_kinds import DatasetKind
from core.ids import DatasetId
from db import datasets, quotas
from db.datasets import NewDataset
from db.session import Database
from db.states import Quota
from tests.conftest import REPOSITORY
from tests.db.conftest import Bench

NEWEST = max(path.stem for path in (REPOSITORY / "migrations" / "versions").glob("[0-9]*.py"))

# As the version before read and changed what it called texts.
OLD_INPUTS = "SELECT id, format, sha256, size_bytes FROM texts ORDER BY format FOR SHARE"
OLD_UPLOAD_ENDS = "UPDATE texts SET stored_at = now() WHERE stored_at IS NULL RETURNING format"
OLD_FORGETS = "DELETE FROM texts WHERE announced_at < now() AND sha256 = :sha256 RETURNING sha256"


def newest() -> ModuleType:
    return importlib.import_module(f"migrations.versions.{NEWEST}")


def run(database: Database, step: str) -> None:
    """Take the newest migration back or make it, as Alembic does."""
    with database.transaction() as session, Operations.context(MigrationContext.configure(session.connection())):
        getattr(newest(), step)()


def announce(bench: Bench, kind: DatasetKind, number: int) -> str:
    """Announce a dataset, and return its id."""
    new = NewDataset("own", kind, f"{number:064x}", 1, 1)
    return bench.database.run(partial(datasets.announce, team_id=bench.team, new=new))


def test_it_can_be_taken_back_and_made_again_and_nothing_is_lost(bench: Bench) -> None:
    ids = [announce(bench, kind, number) for number, kind in enumerate((DatasetKind.TEXT, DatasetKind.CHAT))]
    bench.database.run(partial(quotas.set_quota, team_id=bench.team, name=Quota.DATASETS, maximum=7))
    run(bench.database, "downgrade")
    assert bench.rows("SELECT id, format FROM texts ORDER BY id") == [(ids[0], "text"), (ids[1], "jsonl")]
    assert bench.rows("SELECT name, maximum FROM team_quotas") == [("texts", 7)]
    run(bench.database, "upgrade")
    # What the lines are is in the store, where a migration does not look.
    assert bench.rows("SELECT id, kind FROM datasets ORDER BY id") == [(ids[0], "text"), (ids[1], "documents")]
    assert bench.rows("SELECT name, maximum FROM team_quotas") == [("datasets", 7)]
    kept, is_new = bench.database.run(partial(datasets.keep, dataset_id=DatasetId(ids[0])))
    assert (kept.id, is_new) == (ids[0], True)


def test_a_text_that_has_become_a_chat_goes_back_to_one(bench: Bench) -> None:
    for kind in (DatasetKind.TEXT, DatasetKind.DOCUMENTS, DatasetKind.CHAT):
        announce(bench, kind, 1)
    run(bench.database, "downgrade")
    assert bench.rows("SELECT format FROM texts ORDER BY format") == [("jsonl",), ("text",)]


def test_older_code_reads_and_forgets_beside_it(bench: Bench) -> None:
    text_id, chat_id = (announce(bench, kind, n) for n, kind in enumerate((DatasetKind.TEXT, DatasetKind.CHAT)))
    with bench.database.transaction() as session:
        assert session.execute(text(OLD_INPUTS)).all() == [
            (chat_id, "jsonl", f"{1:064x}", 1),
            (text_id, "text", f"{0:064x}", 1),
        ]
        assert sorted(session.scalars(text(OLD_UPLOAD_ENDS))) == ["jsonl", "text"]
        assert session.scalars(text(OLD_FORGETS), {"sha256": f"{1:064x}"}).all() == [f"{1:064x}"]
    assert bench.rows("SELECT id FROM datasets WHERE stored_at IS NOT NULL") == [(text_id,)]
