"""What Postgres has taken is not written again, though its answer was lost on the way."""

from collections.abc import Callable, Iterator
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core.ids import JobId
from db import logs, metrics
from db.claim import Claim
from db.metrics import NewMetric
from db.session import Database
from db.tokens import LeaseLost
from engines.context import Measurement
from tests.db.conftest import Bench
from workers.departure import Departure
from workers.leases import HeldLease
from workers.log_writer import LogWriter
from workers.metric_writer import MetricWriter

T = TypeVar("T")


class FadingDatabase(Database):
    """Loses the answer to a commit, once, when it is told to."""

    loses_answer = False

    def run(self, verb: Callable[[Session], T]) -> T:
        result = super().run(verb)
        if self.loses_answer:
            self.loses_answer = False
            raise OperationalError("COMMIT", None, ConnectionResetError())
        return result


@pytest.fixture
def fading(database_url: str) -> Iterator[FadingDatabase]:
    database = FadingDatabase(database_url)
    yield database
    database.dispose()


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


@pytest.fixture
def job_id(bench: Bench) -> JobId:
    return bench.submit()


@pytest.fixture
def claimed(bench: Bench, job_id: JobId) -> Claim:
    bench.bind_all()
    claimed = bench.must_claim()
    assert bench.steps(job_id)["fetch"] == "running"
    return claimed


def held(database: Database, claimed: Claim) -> HeldLease:
    return HeldLease(database, claimed.lease, Departure(30))


def printed(bench: Bench, job_id: JobId) -> list[tuple[int, str]]:
    rows, _ = bench.database.run(lambda s: logs.page(s, job_id, None, 0, 100))
    return [(chunk.attempt, chunk.text) for _, chunk in rows]


def measured(bench: Bench, job_id: JobId) -> list[int]:
    rows, _ = bench.database.run(lambda s: metrics.page(s, job_id, 0, 100))
    return [metric.layer for _, metric in rows]


def test_a_chunk_that_is_there_is_not_written_again(bench: Bench, job_id: JobId, claimed: Claim) -> None:
    append = partial(logs.append, lease=claimed.lease, attempt=claimed.attempt)
    for text, offset_bytes in [("one\n", 0), ("one\n", 0), ("two\n", 4), ("one\n", 0), ("two\n", 4)]:
        bench.database.run(partial(append, text=text, offset_bytes=offset_bytes))
    assert printed(bench, job_id) == [(1, "one\n"), (1, "two\n")]
    bench.release(claimed)
    again = bench.must_claim()
    bench.database.run(lambda s: logs.append(s, again.lease, again.attempt, "one\n", 0))
    assert printed(bench, job_id)[2:] == [(2, "one\n")]
    with pytest.raises(LeaseLost):
        bench.database.run(partial(append, text="one\n", offset_bytes=0))


def test_a_log_is_whole_though_answers_are_lost(
    bench: Bench, job_id: JobId, claimed: Claim, fading: FadingDatabase, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    writer = LogWriter(fading, held(fading, claimed), log, claimed)
    with log.open("w") as file:
        for number in range(3):
            print("line", number, file=file, flush=True)
            fading.loses_answer = True
            writer.copy()
            print("line", number, "and what follows", file=file, flush=True)
            writer.copy()
        file.write("the last")
    fading.loses_answer = True
    writer.finish()
    assert "".join(text for _, text in printed(bench, job_id)) == log.read_text()


def test_what_was_measured_is_written_once_though_answers_are_lost(
    bench: Bench, job_id: JobId, claimed: Claim, fading: FadingDatabase
) -> None:
    writer = MetricWriter(fading, held(fading, claimed), claimed)
    for layer in range(0, 6, 2):
        writer.add(Measurement(layer, "mlp", {"loss": 1}))
        fading.loses_answer = True
        writer.write()
        writer.add(Measurement(layer + 1, "mlp", {"loss": 1}))
        writer.write()
    writer.add(Measurement(6, "mlp", {"loss": 1}))
    fading.loses_answer = True
    writer.finish()
    assert measured(bench, job_id) == list(range(7))


def test_a_module_may_be_measured_twice(bench: Bench, job_id: JobId, claimed: Claim) -> None:
    twice = [NewMetric(0, "mlp", {"loss": 2}), NewMetric(0, "mlp", {"loss": 1})]
    bench.database.run(lambda s: metrics.append(s, claimed.lease, claimed.attempt, twice, 0))
    assert measured(bench, job_id) == [0, 0]
    assert bench.database.run(lambda s: metrics.latest(s, job_id)) == [(0, "mlp", {"loss": 1})]


@pytest.mark.parametrize("append", [logs.append, metrics.append])
def test_whoever_writes_says_where_it_belongs(append: Callable[..., None]) -> None:
    """A writer that forgot to would have all but its first piece taken for what is there already."""
    assert [one.name for one in signature(append).parameters.values() if one.default is not one.empty] == []
