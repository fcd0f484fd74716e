"""The newest migrations can be taken back and made again with rows there, and older code goes on beside them."""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from core.dataset_kinds import DatasetKind
from core.ids import DatasetId
from db import datasets, quotas
from db.datasets import NewDataset
from db.session import Database
from db.states import Quota
from tests.conftest import REPOSITORY
from tests.db.conftest import Bench

ALL = sorted(path.stem for path in (REPOSITORY / "migrations" / "versions").glob("[0-9]*.py"))
NEWEST = ALL[-1:]
SINCE_TEXTS = [name for name in ALL if name >= "0010"]  # that which made texts datasets, and what came after it

# As the version before read and changed what it called texts.
OLD_INPUTS = "SELECT id, format, sha256, size_bytes FROM texts ORDER BY format FOR SHARE"
OLD_UPLOAD_ENDS = "UPDATE texts SET stored_at = now() WHERE stored_at IS NULL RETURNING format"
OLD_FORGETS = "DELETE FROM texts WHERE announced_at < now() AND sha256 = :sha256 RETURNING sha256"


def migration(name: str) -> ModuleType:
    return importlib.import_module(f"migrations.versions.{name}")


def take_back(database: Database, names: Sequence[str]) -> None:
    run(database, [migration(name).downgrade for name in reversed(names)])


def make(database: Database, names: Sequence[str]) -> None:
    run(database, [migration(name).upgrade for name in names])


def run(database: Database, steps: Sequence[Callable[[], None]]) -> None:
    """Run steps of migrations as Alembic does."""
    with database.transaction() as session, Operations.context(MigrationContext.configure(session.connection())):
        for step in steps:
            step()


def announce(bench: Bench, kind: DatasetKind, number: int) -> str:
    """Announce a dataset, and return its id."""
    new = NewDataset("own", kind, f"{number:064x}", 1, 1)
    return bench.database.run(partial(datasets.announce, team_id=bench.team, new=new))


def test_datasets_can_be_taken_back_and_made_again_and_nothing_is_lost(bench: Bench) -> None:
    ids = [announce(bench, kind, number) for number, kind in enumerate((DatasetKind.TEXT, DatasetKind.CHAT))]
    bench.database.run(partial(quotas.set_quota, team_id=bench.team, name=Quota.DATASETS, maximum=7))
    take_back(bench.database, SINCE_TEXTS)
    assert bench.rows("SELECT id, format FROM texts ORDER BY id") == [(ids[0], "text"), (ids[1], "jsonl")]
    assert bench.rows("SELECT name, maximum FROM team_quotas") == [("texts", 7)]
    make(bench.database, SINCE_TEXTS)
    # What the lines are is in the store, where a migration does not look.
    assert bench.rows("SELECT id, kind FROM datasets ORDER BY id") == [(ids[0], "text"), (ids[1], "documents")]
    assert bench.rows("SELECT name, maximum FROM team_quotas") == [("datasets", 7)]
    kept, is_new = bench.database.run(partial(datasets.keep, dataset_id=DatasetId(ids[0])))
    assert (kept.id, is_new) == (ids[0], True)


def test_without_a_kind_only_its_datasets_are_lost_and_they_can_be_brought_again(bench: Bench) -> None:
    for number, kind in enumerate(DatasetKind):
        announce(bench, kind, number)
    take_back(bench.database, NEWEST)
    known = [(kind,) for kind in sorted({*DatasetKind} - {DatasetKind.CODE})]
    assert bench.rows("SELECT kind FROM datasets ORDER BY kind") == known
    with pytest.raises(IntegrityError, match="ck_datasets_kind_known"):
        announce(bench, DatasetKind.CODE, 10)
    make(bench.database, NEWEST)
    announce(bench, DatasetKind.CODE, 10)
    assert bench.rows("SELECT count(*) FROM datasets") == [(len(DatasetKind),)]


def test_a_text_that_has_become_a_chat_goes_back_to_one(bench: Bench) -> None:
    for kind in (DatasetKind.TEXT, DatasetKind.DOCUMENTS, DatasetKind.CHAT):
        announce(bench, kind, 1)
    take_back(bench.database, SINCE_TEXTS)
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
