"""What operators see and change while the service runs, by the commands that they type."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text, update

from core import settings
from core.ids import WorkerId
from db import keys, workers
from db.renewal import renew
from db.room import Room
from db.session import Database
from db.tables import Worker
from db.workers import Node
from server.cli import main

Fewbitsd = Callable[..., Result]


@pytest.fixture
def fewbitsd(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fewbitsd]:
    """Runs a command on the test's database."""
    monkeypatch.setenv("FEWBITS_DATABASE_URL", database_url)
    settings._read.cache_clear()
    yield lambda *arguments: CliRunner().invoke(main, arguments)
    settings._read.cache_clear()


def new_worker(database: Database, pool: str = "cpu", host: str = "node-1", vram_bytes: int | None = None) -> WorkerId:
    node = Node(pool, host, 1, "cpu" if vram_bytes is None else "cuda:0", 2, Room(64 * 10**9, vram_bytes, 10**12))
    return database.run(partial(workers.register, node=node))


def rows(shown: Result) -> list[list[str]]:
    """The cells of a table, without its head."""
    assert shown.exit_code == 0, shown.output
    return [line.split() for line in shown.stdout.splitlines()[1:]]


def states(fewbitsd: Fewbitsd) -> dict[str, str]:
    head = fewbitsd("workers", "list").stdout.splitlines()[0]
    at = head.index("state")
    lines = fewbitsd("workers", "list").stdout.splitlines()[1:]
    return {line.split()[0]: line[at:].split()[0] for line in lines}


def test_workers_are_listed_with_what_they_have(fewbitsd: Fewbitsd, database: Database) -> None:
    gpu = new_worker(database, "gpu", "node-2", 80 * 10**9)
    cpu = new_worker(database, host="node\x1b[2J-1")
    with database.transaction() as session:
        session.execute(update(Worker).where(Worker.id == cpu).values(complaint="The scratch disk is\nfull."))
    shown = fewbitsd("workers", "list")
    assert "\x1b" not in shown.stdout
    first, second = rows(shown)
    assert first[:2] == [cpu, "cpu"]
    assert first[-6:] == ["live", "The", "scratch", "disk", "is", "full."]
    assert second == [gpu, "gpu", "node-2", "cuda:0", "0/2", "64.0", "GB", "80.0", "GB", "1000.0", "GB", "live"]


def test_the_state_of_a_worker(fewbitsd: Fewbitsd, database: Database) -> None:
    live, drained, gone, ended = (new_worker(database) for _ in range(4))
    long_ago = new_worker(database)
    assert fewbitsd("workers", "drain", drained).exit_code == 0
    database.run(lambda session: workers.stopped(session, ended))
    with database.transaction() as session:
        silence = text("UPDATE workers SET seen_at = now() - CAST(:age AS interval) WHERE id = :id")
        session.execute(silence, {"id": gone, "age": "1 hour"})
        session.execute(silence, {"id": long_ago, "age": "8 days"})
    expected = {live: "live", drained: "drained", gone: "gone", ended: "stopped"}
    assert states(fewbitsd) == expected
    assert fewbitsd("workers", "drain", drained).exit_code == 0
    assert fewbitsd("workers", "undrain", drained).exit_code == 0
    assert states(fewbitsd) == {**expected, drained: "live"}


def test_a_silent_worker_is_drained_should_it_come_back(fewbitsd: Fewbitsd, database: Database) -> None:
    there, silent = new_worker(database), new_worker(database)
    assert fewbitsd("workers", "drain", there).stderr == ""
    with database.transaction() as session:
        session.execute(update(Worker).where(Worker.id == silent).values(seen_at=text("now() - interval '1 hour'")))
    for verb, then in (("undrain", "claims again"), ("drain", "claims nothing more")):
        ended = fewbitsd("workers", verb, silent)
        assert ended.exit_code == 0
        assert ended.stderr.startswith(f"Worker {silent} is gone: it has fallen silent")
        assert f"Should it come back, it {then}" in ended.stderr
    assert states(fewbitsd) == {there: "drained", silent: "gone,"}
    database.run(lambda session: renew(session, silent, [], 60, None))
    assert states(fewbitsd) == {there: "drained", silent: "drained"}


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_a_worker_that_has_ended_cannot_be_drained(fewbitsd: Fewbitsd, database: Database, verb: str) -> None:
    worker = new_worker(database)
    database.run(lambda session: workers.stopped(session, worker))
    ended = fewbitsd("workers", verb, worker)
    assert ended.exit_code == 1
    assert f"Worker {worker} has ended: it runs nothing" in ended.stderr
    assert "'fewbitsd workers list' shows it" in ended.stderr
    assert states(fewbitsd) == {worker: "stopped"}


def test_pools_are_paused_and_resumed(fewbitsd: Fewbitsd, database: Database) -> None:
    new_worker(database)
    assert fewbitsd("workers", "drain", new_worker(database)).exit_code == 0
    expected = [["cpu", "open", "2", "1", "0/4", "0"], ["gpu", "open", "0", "0", "0/0", "0"]]
    assert rows(fewbitsd("pools", "list")) == expected
    for _ in range(2):
        assert fewbitsd("pools", "pause", "cpu").exit_code == 0
    assert [row[1] for row in rows(fewbitsd("pools", "list"))] == ["paused", "open"]
    for _ in range(2):
        assert fewbitsd("pools", "resume", "cpu").exit_code == 0
    assert [row[1] for row in rows(fewbitsd("pools", "list"))] == ["open", "open"]


def test_quotas_are_set_and_taken_back(fewbitsd: Fewbitsd, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWBITS_TEAM_QUEUED_JOBS_MAX", "7")
    for team in ("ours", "theirs"):
        database.run(partial(keys.create_key, team_name=team, label=""))
    defaults = [["queued_jobs", "0", "7"], ["running_cpu", "0", "no", "limit"], ["running_gpu", "0", "no", "limit"]]
    defaults.append(["datasets", "0", "100"])
    assert rows(fewbitsd("quotas", "list", "ours")) == defaults
    for maximum in ("3", "0", "2147483647"):
        assert fewbitsd("quotas", "set", "ours", "running_gpu", maximum).exit_code == 0
        assert rows(fewbitsd("quotas", "list", "ours")) == [*defaults[:2], ["running_gpu", "0", maximum], defaults[3]]
    assert rows(fewbitsd("quotas", "list", "theirs")) == defaults
    for _ in range(2):
        assert fewbitsd("quotas", "set", "ours", "running_gpu", "default").exit_code == 0
    assert rows(fewbitsd("quotas", "list", "ours")) == defaults


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("workers drain worker_0", 1, "There is no worker 'worker_0'. 'fewbitsd workers list' shows"),
        ("workers undrain worker_0", 1, "There is no worker 'worker_0'."),
        ("pools pause tpu", 2, "Invalid value for 'POOL': 'tpu' is not one of 'cpu', 'gpu'"),
        ("quotas list nobody", 1, "There is no team 'nobody'. 'fewbitsd keys list' shows"),
        ("quotas set nobody queued_jobs 1", 1, "There is no team 'nobody'."),
        ("quotas set ours jobs 1", 2, "'jobs' is not one of 'queued_jobs', 'running_cpu', 'running_gpu', 'datasets'"),
        ("quotas set ours queued_jobs many", 2, "'many' is neither a number"),
        ("quotas set ours queued_jobs 1.5", 2, "'1.5' is neither a number"),
        ("quotas set ours queued_jobs -1", 2, "'-1' is neither a number"),
        ("quotas set ours queued_jobs 2147483648", 2, "neither a number from 0 to 2147483647 nor 'default'"),
        (f"quotas set ours queued_jobs {'9' * 5000}", 2, "neither a number"),
        ("quotas set ours queued_jobs ²", 2, "neither a number"),
    ],
)
def test_what_cannot_be_done_is_said(
    fewbitsd: Fewbitsd, database: Database, arguments: str, code: int, says: str
) -> None:
    database.run(partial(keys.create_key, team_name="ours", label=""))
    ended = fewbitsd(*arguments.split())
    assert ended.exit_code == code
    assert says in " ".join(ended.stderr.split())
    assert ended.stdout == ""
    assert rows(fewbitsd("quotas", "list", "ours"))[0] == ["queued_jobs", "0", "1000"]


def test_without_postgres_it_is_said(fewbitsd: Fewbitsd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWBITS_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    ended = fewbitsd("pools", "list")
    assert ended.exit_code == 1
    assert "Postgres does not answer" in ended.stderr
