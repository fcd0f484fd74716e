"""Each duty of rescue is done though another cannot be."""

from pathlib import Path

import pytest
from sqlalchemy import text

from core.errors import StoreFailed
from db.artifacts import intend
from db.idempotency import Answer, act_once
from db.session import Database
from store.directory import DirectoryStore
from tests.db.conftest import RETRY, Bench
from tests.waiting import wait_until
from workers.collector import Collector, Keeping
from workers.rescue import Rescue

LEASE_SECONDS = 1.0
KEEPING = Keeping(garbage_grace_seconds=0, idempotency_seconds=60, history_seconds=3600)


class BrokenStore(DirectoryStore):
    def delete(self, sha256: str) -> None:
        raise StoreFailed(f"{sha256} cannot be deleted")


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def test_a_broken_store_keeps_no_execution_from_its_rescue(bench: Bench, tmp_path: Path) -> None:
    rescue = Rescue(bench.database, RETRY, LEASE_SECONDS)
    collector = Collector(bench.database, BrokenStore(tmp_path), KEEPING)
    job = bench.submit()
    bench.bind_all()
    claimed = bench.must_claim(lease_seconds=LEASE_SECONDS)
    bench.database.run(lambda s: intend(s, claimed.lease, {"a" * 64: 1}))
    wait_until(lambda: rescue.run_once().executions == 1)
    assert bench.steps(job)["fetch"] == "ready"
    assert collector.run_once().blobs == 0
    with bench.database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM blobs")).scalar_one() == 1


def test_garbage_is_deleted_from_the_store(bench: Bench, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    collector = Collector(bench.database, store, KEEPING)
    bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    (tmp_path / "file").write_text("left by a worker that died before its commit")
    store.put(tmp_path / "file", "a" * 64)
    bench.database.run(lambda s: intend(s, claimed.lease, {"a" * 64: 1}))
    assert collector.run_once().blobs == 0
    bench.release(claimed)
    assert collector.run_once().blobs == 1
    assert not store.has("a" * 64)


def test_old_idempotency_keys_are_forgotten(bench: Bench, tmp_path: Path) -> None:
    collector = Collector(bench.database, DirectoryStore(tmp_path / "store"), KEEPING)
    with bench.database.transaction() as session:
        for key in ("old", "new"):
            act_once(session, bench.team, key, "a" * 64, lambda: Answer(location="/", body="{}"))
        session.execute(text("UPDATE idempotency_keys SET created_at = now() - interval '61 s' WHERE key = 'old'"))
    assert collector.run_once().keys == 1
    with bench.database.transaction() as session:
        assert session.execute(text("SELECT key FROM idempotency_keys")).scalars().all() == ["new"]
