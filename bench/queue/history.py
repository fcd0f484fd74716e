"""A database with a past: a million jobs that are over, of eleven teams, one of which has half of them.

A tenth of the large team's jobs, in blocks spread over the whole time, have all their six steps with artifacts and
scores; a page that begins within such a block shows what a page shows in life.
"""

from sqlalchemy import Connection, text

from bench.queue import seeding
from bench.queue.contenders.fewbits import make_teams, vacuum
from bench.queue.place import Place
from bench.queue.seeding import Jobs
from db.session import Database
from server.migrate import upgrade

NAME = "history"
TEAM_COUNT = 40  # more than have a past: the others have what waits
OF_LARGE_TEAM = "CASE WHEN n % 2 = 0 THEN 0 ELSE n % 20 END"
BLOCK, WHOLE = 4000, 400  # of each block of numbers, how many at its end are of whole jobs
PIECE = 100_000
PAST_MAX = 10_000_000  # jobs of greater numbers are not of the past: what waits, and what was claimed


def open_history(at: Place) -> Database:
    """Open the database, which is made when it is first asked for."""
    url = f"{at.postgres_url.rpartition('/')[0]}/{NAME}"
    if at.has_database(NAME):
        return Database(url, connections_max=2)
    at.create_database(NAME)
    upgrade(url)
    database = Database(url, connections_max=2)
    make_teams(database, TEAM_COUNT)
    return database


def grow(database: Database, count: int) -> None:
    """Add jobs until there are ``count`` that are over, and have Postgres count them."""
    with database.engine.begin() as connection:
        present = _count(connection)
    for first in range(present, count, PIECE):
        with database.engine.begin() as connection:
            size = min(PIECE, count - first)
            whole = f"n % 2 = 0 AND n % {BLOCK} >= {BLOCK - WHOLE}"
            seeding.finished(connection, Jobs(first, size, OF_LARGE_TEAM, whole))
    vacuum(database)


def _count(connection: Connection) -> int:
    seeded = text("SELECT count(*) FROM jobs WHERE id < :end")
    return connection.scalar(seeded, {"end": seeding.job_id(PAST_MAX)}) or 0
