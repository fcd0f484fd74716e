"""The newest migration can be taken back and made again with rows there, and older code goes on beside it."""

import importlib
from types import ModuleType

from alembic.migration import MigrationContext
from alembic.operations import Operations

from core.ids import JobId
from db import sweeps
from db.session import Database
from db.sweeps import NewSweep
from tests.conftest import REPOSITORY
from tests.db.conftest import Bench, new_job

NEWEST = max(path.stem for path in (REPOSITORY / "migrations" / "versions").glob("[0-9]*.py"))

# As the version before wrote jobs.
OLD_SUBMIT = """
    INSERT INTO jobs (id, team_id, status, source, method, recipe, evaluation, metadata, priority, event_count)
    SELECT 'job_old', id, 'queued', 'file:///m', 'gguf', '{}', '{}', '{}', 0, 0 FROM teams
"""


def newest() -> ModuleType:
    return importlib.import_module(f"migrations.versions.{NEWEST}")


def run(database: Database, step: str) -> None:
    """Take the newest migration back or make it, as Alembic does."""
    with database.transaction() as session, Operations.context(MigrationContext.configure(session.connection())):
        getattr(newest(), step)()


def test_it_can_be_taken_back_and_made_again_and_nothing_else_is_lost(bench: Bench) -> None:
    alone = bench.submit()
    sweep = NewSweep("file:///m", None, {})
    bench.database.run(lambda s: sweeps.submit(s, bench.team, sweep, [new_job(), new_job()]))
    before = bench.rows("SELECT id, status, recipe FROM jobs ORDER BY id")
    run(bench.database, "downgrade")
    run(bench.database, "upgrade")
    assert bench.rows("SELECT id, status, recipe FROM jobs ORDER BY id") == before
    assert bench.rows("SELECT DISTINCT sweep_id, sweep_position FROM jobs") == [(None, None)]
    assert bench.work_off() > 0
    assert bench.status(alone) == "succeeded"


def test_older_code_submits_beside_it(bench: Bench) -> None:
    bench.execute(OLD_SUBMIT)
    assert bench.rows("SELECT sweep_id, sweep_position FROM jobs") == [(None, None)]
    assert bench.job(JobId("job_old")).status == "queued"
