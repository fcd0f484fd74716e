"""What the benchmark of the queue stands on: its seed is what the verbs make, its figures tell what was missed."""

import json
import time
from functools import partial
from pathlib import Path

import pytest

from api.presenting import job_object
from bench.queue import claims, seeding
from bench.queue.contenders.fewbits import make_teams
from bench.queue.figures import Bound, Report, percentile
from bench.queue.marks import Marker, Marks
from bench.queue.seeding import Jobs
from core.ids import TeamId
from db import jobs, workers
from db.claim import Claimer, claim
from db.jobs import JobFilter
from db.lease import Result, finish
from db.session import Database

ANY = JobFilter()


@pytest.fixture
def teams(database: Database) -> list[TeamId]:
    return make_teams(database, 3)


def test_what_the_seed_makes_ready_runs_to_its_end(database: Database, teams: list[TeamId]) -> None:
    with database.engine.begin() as connection:
        seeding.ready(connection, Jobs(100, 6))
    worker_id = database.run(partial(workers.register, node=claims.NODE))
    claimer = Claimer(worker_id, pool="cpu", host="here", device="cpu", room=claims.ROOM, capacity=claims.ROOM)
    for _ in range(6):
        claimed = database.run(partial(claim, claimer=claimer, lease_seconds=30))
        assert claimed is not None
        database.run(partial(finish, lease=claimed.lease, result=Result({})))
    assert database.run(partial(claim, claimer=claimer, lease_seconds=30)) is None
    for place, team in enumerate(teams):
        page, _ = database.run(partial(jobs.list_page, team_id=team, wanted=ANY, after=None, limit=10))
        assert {job.id for job in page} == {seeding.job_id(n) for n in range(100, 106) if n % 3 == place}
        assert {job.status for job in page} == {"succeeded"}


def test_a_whole_job_of_the_seed_can_be_shown(database: Database, teams: list[TeamId]) -> None:
    with database.engine.begin() as connection:
        seeding.finished(connection, Jobs(7, 2, team="0", whole="n = 8"))
    page, _ = database.run(partial(jobs.list_page, team_id=teams[0], wanted=ANY, after=None, limit=10))
    shown = [job_object(job) for job in page]
    assert [job.id for job in shown] == [seeding.job_id(8), seeding.job_id(7)]  # newest first
    assert [len(job.steps) for job in shown] == [6, 1]
    result = shown[0].result
    assert result is not None
    assert result.baseline is not None
    assert result.perplexity == result.baseline.perplexity == {"prose": 7.5, "code": 7.5}


def test_a_percentile_is_the_nearest_rank() -> None:
    assert [percentile(range(1, 101), percent) for percent in (50, 99, 100)] == [50, 99, 100]
    assert percentile([3.0], 50) == 3


def test_what_is_missed_is_marked_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.table("part", ["p50", "p99"], {"one": [1.5, (7.0, Bound(at_most=5))], "two": [2, (9.0, Bound(at_least=5))]})
    report.write(tmp_path / "results" / "it.txt", seconds=3)
    printed = capsys.readouterr().out
    assert "7 (≤ 5, MISSED)" in printed
    assert "9 (≥ 5)" in printed
    last = json.loads(printed.splitlines()[-1])
    assert last["missed"] == ["part/one/p99"]
    assert last["figures"]["part/two/p50"] == 2
    assert (tmp_path / "results" / "it.txt").read_text() == printed


def test_marks_are_told_in_order(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks")
    marker, began = Marker(marks.path), time.monotonic()
    for _ in range(3):
        marker.mark()
    first = marks.next(1)
    rest = marks.take()
    assert began <= first <= rest[0] <= rest[1] <= time.monotonic()
    with pytest.raises(TimeoutError):
        marks.next(0)
    marks.close()
