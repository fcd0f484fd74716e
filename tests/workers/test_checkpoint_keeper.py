"""What a child saves is stored while it works: only what is new, never its own file, and nothing without the token."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.manifest import StoredFile
from db import artifacts
from db.claim import Claim
from db.session import Database
from store.directory import DirectoryStore
from store.port import Check, go_on
from tests.db.conftest import Bench
from tests.waiting import wait_until
from workers.checkpoint_keeper import CheckpointKeeper
from workers.departure import Departure
from workers.leases import HeldLease
from workers.protocol import ChildSpec


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


class NotingStore(DirectoryStore):
    """Notes what is put."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.names: list[str] = []

    def put(self, path: Path, sha256: str, check: Check = go_on) -> None:
        self.names.append(path.name)
        super().put(path, sha256, check)


def spec_in(folder: Path) -> ChildSpec:
    return ChildSpec(
        kind="fetch",
        params={},
        inputs={},
        work="work",
        folder=str(folder),
        kernels="",
        threads=1,
        device="cpu",
        source_roots=(),
        publish_roots=(),
        method_modules=(),
    )


def save(keeper: CheckpointKeeper, spec: ChildSpec, number: int) -> None:
    """Save as a child does."""
    shutil.copytree(spec.checkpoint, spec.saved(number), copy_function=os.link)
    keeper.saved(number)


def claimed_by(bench: Bench) -> tuple[Claim, HeldLease]:
    bench.submit()
    bench.bind_all()
    claimed = bench.must_claim()
    return claimed, HeldLease(bench.database, claimed.lease, Departure(60))


def kept(bench: Bench, claimed: Claim) -> Sequence[StoredFile]:
    return bench.database.run(lambda s: artifacts.checkpoint_of(s, claimed.lease.execution_id))


def test_only_what_is_new_is_stored_and_never_the_childs_own_file(bench: Bench, tmp_path: Path) -> None:
    claimed, held = claimed_by(bench)
    spec, store = spec_in(tmp_path / "child"), NotingStore(tmp_path / "store")
    layers = spec.checkpoint / "layers"
    layers.mkdir(parents=True)
    (layers / "first").write_text("1")
    with CheckpointKeeper(held, store, spec, ()) as keeper:
        save(keeper, spec, 1)
        wait_until(lambda: keeper.kept_count == 1)
        (layers / "second").write_text("2")
        save(keeper, spec, 2)
        keeper.finish()
    files = kept(bench, claimed)
    assert [file.name for file in files] == ["layers/first", "layers/second"]
    assert store.names == ["first", "second"]
    with store.materialized({file.sha256: file.size_bytes for file in files}) as paths:
        assert [paths[file.sha256].read_text() for file in files] == ["1", "2"]
        assert not {path.stat().st_ino for path in paths.values()} & {path.stat().st_ino for path in layers.iterdir()}
    assert not list((tmp_path / "child" / "saved").iterdir())


def test_what_an_earlier_attempt_had_stored_is_not_stored_again(bench: Bench, tmp_path: Path) -> None:
    claimed, held = claimed_by(bench)
    spec, store = spec_in(tmp_path / "child"), NotingStore(tmp_path / "store")
    spec.checkpoint.mkdir(parents=True)
    (spec.checkpoint / "old").write_text("1")
    old = StoredFile("old", "a" * 64, 1)
    bench.keep(claimed, (old,))
    with CheckpointKeeper(held, store, spec, [old]) as keeper:
        (spec.checkpoint / "new").write_text("2")
        save(keeper, spec, 1)
        keeper.finish()
    assert store.names == ["new"]
    assert {file.name: file.sha256 for file in kept(bench, claimed)}["old"] == old.sha256


def test_without_its_token_nothing_is_kept(bench: Bench, tmp_path: Path) -> None:
    claimed, held = claimed_by(bench)
    spec, store = spec_in(tmp_path / "child"), NotingStore(tmp_path / "store")
    spec.checkpoint.mkdir(parents=True)
    (spec.checkpoint / "state").write_text("1")
    bench.lose(claimed)
    with CheckpointKeeper(held, store, spec, ()) as keeper:
        save(keeper, spec, 1)
        keeper.finish()
    assert keeper.kept_count == 0
    assert not store.names
    assert not kept(bench, claimed)


def test_what_is_no_file_is_not_kept_and_ends_nothing(bench: Bench, tmp_path: Path) -> None:
    claimed, held = claimed_by(bench)
    spec, store = spec_in(tmp_path / "child"), NotingStore(tmp_path / "store")
    spec.checkpoint.mkdir(parents=True)
    spec.saved(1).mkdir(parents=True)
    (spec.saved(1) / "link").symlink_to("/etc/passwd")
    (spec.checkpoint / "state").write_text("1")
    with CheckpointKeeper(held, store, spec, ()) as keeper:
        keeper.saved(1)
        save(keeper, spec, 2)
        keeper.finish()
    assert [file.name for file in kept(bench, claimed)] == ["state"]
