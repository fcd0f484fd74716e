"""What a worker stores that has lost its lease meanwhile can be collected again."""

import hashlib
from pathlib import Path

import pytest

from db.session import Database
from db.tokens import LeaseLost
from store.directory import DirectoryStore
from store.port import Check, go_on
from tests.db import control_loops
from tests.db.conftest import Bench
from workers.departure import Departure
from workers.leases import HeldLease
from workers.uploader import put_files


class StoreOfALateWorker(DirectoryStore):
    """Before it puts a file, the lease is given away, and what was announced is collected."""

    def __init__(self, root: Path, bench: Bench) -> None:
        super().__init__(root)
        self._bench = bench

    def put(self, path: Path, sha256: str, check: Check = go_on) -> None:
        self._bench.execute("UPDATE executions SET token = token + 1")
        control_loops.collect(self._bench.database)
        assert self._bench.rows("SELECT sha256 FROM blobs") == []
        super().put(path, sha256, check)


def test_a_file_that_comes_after_its_row_was_collected_gets_one_again(database: Database, tmp_path: Path) -> None:
    bench = Bench(database)
    bench.submit()
    bench.bind_all()
    held = HeldLease(database, bench.must_claim().lease, Departure(60))
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "file").write_bytes(b"late")
    store = StoreOfALateWorker(tmp_path / "store", bench)
    with pytest.raises(LeaseLost):
        put_files(held, store, folder, held.check)
    assert bench.rows("SELECT sha256, size_bytes FROM blobs") == [(hashlib.sha256(b"late").hexdigest(), 4)]
    control_loops.collect(database)
    assert bench.rows("SELECT sha256 FROM blobs") == []
