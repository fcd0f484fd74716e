"""A dataset's row and its blob: collected only once nothing has it, and never under a job that names it."""

import contextlib
import hashlib
import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from core.dataset_kinds import DatasetKind
from core.errors import Conflict, InvalidRequest, NotFound, StoreFailed
from core.ids import DatasetId, TeamId
from db import artifacts, datasets, jobs
from db.datasets import NewDataset
from store.directory import DirectoryStore
from tests.db import control_loops
from tests.db.at_once import deadlocks, together
from tests.db.conftest import CHAIN, Bench, new_job
from tests.db.sense import nonsense
from workers.collector import Collector, Keeping

CONTENTS = ("x", "y")  # what Bench's executions make, too
ROUNDS = 40
DUELS = 12
NOTHING_IS_KEPT = Keeping(garbage_grace_seconds=0, idempotency_seconds=1e6, history_seconds=1e6)


def sha256_of(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def announce(bench: Bench, content: str = "x", team: TeamId | None = None) -> DatasetId:
    new = NewDataset("own.txt", DatasetKind.TEXT, sha256_of(content), len(content), 1)
    return bench.database.run(partial(datasets.announce, team_id=team or bench.team, new=new))


def keep(bench: Bench, content: str = "x", team: TeamId | None = None) -> DatasetId:
    dataset_id = announce(bench, content, team)
    bench.database.run(partial(datasets.keep, dataset_id=dataset_id))
    return dataset_id


def remove(bench: Bench, dataset_id: str, team: TeamId | None = None) -> None:
    bench.database.run(partial(datasets.remove, team_id=team or bench.team, dataset_id=dataset_id))


def submit(bench: Bench, dataset_id: str) -> None:
    new = new_job(steps=CHAIN[:1], recipe={"method": "gptq", datasets.FIELD: dataset_id})
    with bench.database.transaction() as session:
        datasets.require_for_job(session, bench.team, dataset_id, datasets.CALIBRATION)
        jobs.submit(session, bench.team, new)


def blobs(bench: Bench) -> set[str]:
    control_loops.collect(bench.database)
    return {row.sha256 for row in bench.rows("SELECT sha256 FROM blobs")}


def test_a_blob_stays_for_as_long_as_a_dataset_of_any_team_has_it(bench: Bench) -> None:
    other = bench.new_team("two")
    ours, theirs = keep(bench), keep(bench, team=other)
    assert ours != theirs
    assert blobs(bench) == {sha256_of("x")}
    remove(bench, ours)
    assert blobs(bench) == {sha256_of("x")}
    remove(bench, theirs, other)
    assert blobs(bench) == set()


def test_a_blob_that_an_artifact_has_too_outlives_its_text(bench: Bench) -> None:
    dataset_id = keep(bench)
    bench.submit(steps=CHAIN[:1])
    bench.bind_all()
    bench.finish(bench.must_claim(), "x")
    remove(bench, dataset_id)
    assert blobs(bench) == {sha256_of("x")}
    assert nonsense(bench.database) == []


def test_what_is_announced_is_kept_from_collection_and_seen_by_nobody(bench: Bench) -> None:
    dataset_id = announce(bench)
    assert blobs(bench) == {sha256_of("x")}
    with pytest.raises(NotFound):
        bench.database.run(partial(datasets.get, team_id=bench.team, dataset_id=dataset_id))
    with pytest.raises(InvalidRequest):
        submit(bench, dataset_id)
    assert bench.database.run(partial(datasets.forget_unfinished, older_than_seconds=60)) == 0
    assert bench.database.run(partial(datasets.forget_unfinished, older_than_seconds=0)) == 1
    assert blobs(bench) == set()


def test_what_is_announced_anew_while_older_leavings_are_forgotten_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(bench)
    hold = artifacts.hold

    def hold_late(session: Session, sha256s: Sequence[str]) -> Sequence[str]:
        monkeypatch.undo()
        assert bench.database.run(partial(datasets.forget_unfinished, older_than_seconds=0)) == 1
        assert blobs(bench) == set()
        held = hold(session, sha256s)
        announce(bench)
        return held

    monkeypatch.setattr(artifacts, "hold", hold_late)
    assert bench.database.run(partial(datasets.forget_unfinished, older_than_seconds=0)) == 0
    assert blobs(bench) == {sha256_of("x")}


def test_a_kept_text_is_not_forgotten_because_an_upload_of_it_was_broken_off(bench: Bench) -> None:
    assert keep(bench) == announce(bench)
    assert bench.database.run(partial(datasets.forget_unfinished, older_than_seconds=0)) == 0


def test_an_upload_waits_for_the_collection_of_its_blob(bench: Bench) -> None:
    remove(bench, keep(bench))
    done: list[DatasetId] = []
    with bench.database.transaction() as collector:
        assert artifacts.lock_garbage(collector, 0) == sha256_of("x")
        upload = threading.Thread(target=lambda: done.append(keep(bench)), daemon=True)
        upload.start()
        upload.join(0.3)
        assert done == []
        artifacts.forget(collector, sha256_of("x"))
    upload.join()
    assert len(done) == 1
    assert blobs(bench) == {sha256_of("x")}


def test_a_job_and_the_deletion_of_its_text_at_once(bench: Bench) -> None:
    """Either there is a job, and the dataset stays; or there is no dataset, and no job."""
    ends: set[tuple[bool, bool]] = set()
    for number in range(DUELS):
        dataset_id = keep(bench, f"dataset {number}")
        together(
            lambda dataset_id=dataset_id: _unless(InvalidRequest, lambda: submit(bench, dataset_id)),  # type: ignore[misc]
            lambda dataset_id=dataset_id: _unless(Conflict, lambda: remove(bench, dataset_id)),  # type: ignore[misc]
        )
        has_job = bool(bench.value("SELECT count(*) FROM jobs WHERE recipe->>'calibration_text' = :id", id=dataset_id))
        has_dataset = bool(bench.value("SELECT count(*) FROM datasets WHERE id = :id", id=dataset_id))
        ends.add((has_job, has_dataset))
    assert ends <= {(True, True), (False, False)}
    assert nonsense(bench.database) == []
    assert deadlocks(bench) == 0


def _unless(refused: type[Exception], act: Callable[[], None]) -> None:
    with contextlib.suppress(refused):
        act()


class Crowd:
    """Two teams, workers and rescue, who all bring and drop the same few bytes."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        self.store = DirectoryStore(folder / "store")
        self.collector = Collector(bench.database, self.store, NOTHING_IS_KEPT)
        self.teams = [bench.team, bench.new_team("two")]
        self.dice = random.Random(3)  # noqa: S311 - no secret

    def upload(self) -> None:
        team, content = self.dice.choice(self.teams), self.dice.choice(CONTENTS)
        dataset_id = announce(self.bench, content, team)
        path = self.folder / threading.current_thread().name
        path.unlink(missing_ok=True)
        path.write_text(content)
        self.store.put(path, sha256_of(content))
        with contextlib.suppress(StoreFailed):  # deleted meanwhile
            self.bench.database.run(partial(datasets.keep, dataset_id=dataset_id))

    def delete(self) -> None:
        for row in self.bench.rows("SELECT id, team_id FROM datasets WHERE stored_at IS NOT NULL"):
            with contextlib.suppress(NotFound):
                remove(self.bench, row.id, TeamId(row.team_id))

    def make(self) -> None:
        """Let an execution leave the same bytes."""
        self.bench.submit(steps=CHAIN[:1], source=f"file:///{self.dice.random()}")
        self.bench.bind_all()
        claimed = self.bench.claim()
        if claimed is not None:
            self.bench.finish(claimed, self.dice.choice("yz"))

    def collect(self) -> None:
        self.collector.run_once()


def test_uploads_deletions_and_collections_that_meet_leave_sense(bench: Bench, tmp_path: Path) -> None:
    crowd = Crowd(bench, tmp_path)

    def repeat(act: Callable[[], None]) -> None:
        for _ in range(ROUNDS):
            act()

    acts = [*[crowd.upload] * 3, crowd.delete, crowd.delete, crowd.make, crowd.collect, crowd.collect]
    together(*(partial(repeat, act) for act in acts))
    assert nonsense(bench.database) == []
    assert deadlocks(bench) == 0
    crowd.upload()
    kept = {row.sha256 for row in bench.rows("SELECT sha256 FROM datasets WHERE stored_at IS NOT NULL")}
    assert kept
    assert all(crowd.store.has(sha256) for sha256 in kept)
    crowd.delete()
    crowd.collect()
    assert not crowd.store.has(sha256_of("x"))
    assert blobs(bench) == {row.sha256 for row in bench.rows("SELECT sha256 FROM artifact_files")}
