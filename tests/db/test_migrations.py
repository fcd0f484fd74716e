"""The newest migration can be taken back and made again with rows there, and older code goes on beside it."""

import importlib
from types import ModuleType

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

from core.errors import DoesNotFit
from db.room import Peaks
from db.session import Database
from tests.conftest import REPOSITORY
from tests.db.conftest import Bench

NEWEST = max(path.stem for path in (REPOSITORY / "migrations" / "versions").glob("[0-9]*.py"))

# As the version before wrote jobs and executions, and took the latter.
OLD_JOB = """
    INSERT INTO jobs (id, team_id, status, source, method, recipe, evaluation, metadata, priority, event_count)
    SELECT 'job_old', id, 'queued', 'file:///m', 'gguf', '{}', '{}', '{}', 0, 0 FROM teams
"""
OLD_EXECUTION = """
    INSERT INTO executions (id, team_id, key, kind, pool, params, inputs, status, priority, memory_bytes,
        scratch_bytes, attempt, failure_count, token)
    SELECT 'exec_old', id, repeat('0', 64), 'fetch', 'cpu', '{}', '{}', 'ready', 0, 1, 1, 0, 0, 0 FROM teams
"""
OLD_CLAIM = """
    UPDATE executions SET status = 'running', worker_id = (SELECT min(id) FROM workers), attempt = 1, token = 1,
        lease_expires_at = now() + interval '1 hour'
"""


def newest() -> ModuleType:
    return importlib.import_module(f"migrations.versions.{NEWEST}")


def run(database: Database, step: str) -> None:
    """Take the newest migration back or make it, as Alembic does."""
    with database.transaction() as session, Operations.context(MigrationContext.configure(session.connection())):
        getattr(newest(), step)()


def test_it_can_be_taken_back_and_made_again_and_nothing_else_is_lost(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    bench.fail(bench.must_claim(), DoesNotFit("It was killed for memory."), peaks=Peaks(5, 6, 7))
    before = bench.rows("SELECT execution_id, number, outcome, error, forecast_memory_bytes FROM attempts")
    run(bench.database, "downgrade")
    run(bench.database, "upgrade")
    assert bench.rows("SELECT execution_id, number, outcome, error, forecast_memory_bytes FROM attempts") == before
    bench.finish(bench.must_claim())
    assert bench.rows("SELECT benchmark FROM jobs") == [(None,)]


def test_older_code_submits_binds_and_claims_beside_it(bench: Bench) -> None:
    with bench.database.transaction() as session:
        for statement in (OLD_JOB, OLD_EXECUTION, OLD_CLAIM):
            session.execute(text(statement))
    assert bench.rows("SELECT is_exclusive FROM executions") == [(False,)]
    assert bench.rows("SELECT benchmark FROM jobs") == [(None,)]
