"""fewbits itself: rows in Postgres, dispatch, hints through Celery, and its own worker with a null executor."""

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from sqlalchemy import text

from bench.queue import seeding
from bench.queue.contenders.contender import Contender
from bench.queue.place import CHECKOUT, Place
from bench.queue.seeding import Jobs
from core.ids import TeamId
from db import jobs, keys
from db.jobs import NewJob, PlannedStep
from db.session import Database
from server.migrate import upgrade

SOURCE = CHECKOUT / "demo" / "tiny-llama-6m"
OPEN = text("SELECT EXISTS (SELECT FROM executions WHERE status IN ('ready', 'running'))")
ONE_STEP = NewJob(
    source=SOURCE.as_uri(),
    method="gguf",
    recipe={"method": "gguf", "type": "Q4_K_M"},
    evaluation={},
    metadata={},
    priority=0,
    max_runtime_seconds=None,
    max_pending_seconds=None,
    steps=(PlannedStep("fetch", "cpu", (), {}),),
)


class Fewbits(Contender):
    """One job of one step for each task, all of one team."""

    name = "fewbits"
    team_count: ClassVar[int] = 1

    def __init__(self, at: Place, database_url: str) -> None:
        super().__init__(at, database_url)
        self._database = Database(database_url, connections_max=2)
        self._teams: itertools.cycle[TeamId] = itertools.cycle(())

    def commands(self) -> Mapping[str, Sequence[str]]:
        """Return dispatch, and the worker with its null executor."""
        return {"worker": ["-m", "bench.queue.null_worker"], "dispatch": fewbitsd("dispatch")}

    def environment(self, marks: Path) -> Mapping[str, str]:
        """Return the settings of both."""
        return {**super().environment(marks), **settings(self.at, self.database_url)}

    def prepare(self) -> None:
        """Make tables and teams."""
        upgrade(self.database_url)
        self._teams = itertools.cycle(make_teams(self._database, self.team_count))

    def submit(self) -> None:
        """Submit one job, as the API does."""
        team = next(self._teams)
        self._database.run(lambda session: jobs.submit(session, team, ONE_STEP))

    def fill(self, count: int) -> None:
        """Write that many jobs, bound and ready, and have Postgres count them."""
        with self._database.engine.begin() as connection:
            seeding.ready(connection, Jobs(seeding.NOW - count, count))
        vacuum(self._database)

    def is_drained(self) -> bool:
        """Say whether no execution is left."""
        return not self._database.run(lambda session: session.scalar(OPEN))

    def close(self) -> None:
        """Close the connections."""
        self._database.dispose()


class FewbitsOfTwentyTeams(Fewbits):
    """The same work, of twenty teams in turn."""

    name = "fewbits, 20 teams"
    team_count = 20


def fewbitsd(*arguments: str) -> Sequence[str]:
    """Return what makes the interpreter run a command of ``fewbitsd``."""
    return ["-c", "from server.cli import main; main()", *arguments]


def settings(at: Place, database_url: str) -> Mapping[str, str]:
    """Return the settings of fewbits's processes."""
    return {
        "FEWBITS_DATABASE_URL": database_url,
        "FEWBITS_BROKER_URL": at.broker_url,
        "FEWBITS_STORE_URL": (at.folder / "store").as_uri(),
        "FEWBITS_SCRATCH_ROOT": str(at.folder / "scratch"),
        "FEWBITS_SOURCE_ROOTS": str(SOURCE.parent),
    }


def make_teams(database: Database, count: int) -> list[TeamId]:
    """Make teams, and return them in the order of their names."""
    teams = []
    for number in range(count):
        _, key = database.run(partial(keys.create_key, team_name=f"team {number:02}", label=""))
        teams.append(database.run(partial(keys.authenticate, key=key)))
    return teams


def vacuum(database: Database) -> None:
    """Have Postgres clean up and count, as its daemon does in time."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
