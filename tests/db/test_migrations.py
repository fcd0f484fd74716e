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

# As the version before wrote attempts.
OLD_CLAIM = """
    INSERT INTO attempts (execution_id, number, worker_id, host, device, started_at)
    SELECT id, attempt + 1, 'worker_1', 'here', 'cpu', clock_timestamp() FROM executions
"""
OLD_END = """
    UPDATE attempts SET ended_at = clock_timestamp(), outcome = 'succeeded', peak_memory_bytes = 5 WHERE outcome IS NULL
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
    before = bench.rows("SELECT execution_id, number, outcome, error, peak_memory_bytes FROM attempts")
    run(bench.database, "downgrade")
    run(bench.database, "upgrade")
    assert bench.rows("SELECT execution_id, number, outcome, error, peak_memory_bytes FROM attempts") == before
    bench.finish(bench.must_claim())
    assert bench.rows("SELECT forecast_memory_bytes IS NULL FROM attempts ORDER BY number") == [(True,), (False,)]


def test_older_code_claims_and_ends_beside_it(bench: Bench) -> None:
    bench.submit()
    bench.bind_all()
    with bench.database.transaction() as session:
        session.execute(text(OLD_CLAIM))
        session.execute(text(OLD_END))
    assert bench.rows("SELECT forecast_memory_bytes, peak_memory_bytes, peak_vram_bytes FROM attempts") == [
        (None, 5, None)
    ]
