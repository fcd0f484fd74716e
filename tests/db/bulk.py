"""Rows by the million, written as statements instead of by verbs: a service that has been in use for months.

Each execution belongs to one job with one step. Refuses to know what is measured or asked of them.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from core.ids import TeamId
from db.session import Database

MONTHS_SECONDS = 80 * 86400.0  # over which the finished ones are spread
HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class Bulk:
    """How many rows of each kind; evenly divided between the teams.

    Attributes:
        finished: executions that have succeeded, each with an attempt, an artifact of one file, an event, a log chunk.
        ready: executions that wait for a claim.
        unbound: steps that are ready, and have no execution yet.
        running: executions with a lease.
    """

    finished: int = 0
    ready: int = 0
    unbound: int = 0
    running: int = 0


_JOBS = """
    INSERT INTO jobs (id, team_id, status, source, method, recipe, evaluation, metadata, priority, event_count,
        created_at, started_at, finished_at)
    SELECT 'job_' || :name || n, (CAST(:teams AS text[]))[1 + n % :team_count], :job_status, 'file:///m', 'gguf',
        '{}', '{}', '{}', n % 3, 1, at, CASE WHEN :job_status <> 'queued' THEN at END,
        CASE WHEN :job_status = 'succeeded' THEN at END
    FROM numbered
"""
_EXECUTIONS = """
    INSERT INTO executions (id, team_id, key, kind, pool, params, inputs, status, priority, memory_bytes, vram_bytes,
        scratch_bytes, queued_at, ready_at, attempt, failure_count, token, worker_id, lease_expires_at, created_at,
        started_at, finished_at, facts)
    SELECT 'exec_' || :name || n, (CAST(:teams AS text[]))[1 + n % :team_count],
        encode(sha256(convert_to(:name || n, 'utf8')), 'hex'), 'fetch',
        'cpu', '{}', '{}', :status, n % 3, 1, 0, 1, at, at,
        :claims, 0, :claims, CASE :status WHEN 'running' THEN :worker_id END,
        CASE :status WHEN 'running' THEN now() + interval '1 hour' END, at,
        CASE WHEN :claims > 0 THEN at END, CASE :status WHEN 'succeeded' THEN at END, '{}'
    FROM numbered
"""
_STEPS = """
    INSERT INTO steps (id, job_id, position, kind, pool, needs, params, status, execution_id, reused, finished_at)
    SELECT 'step_' || :name || n, 'job_' || :name || n, 0, 'fetch', 'cpu', '{}', '{}', :status,
        CASE WHEN :is_bound THEN 'exec_' || :name || n END, false, CASE :status WHEN 'succeeded' THEN at END
    FROM numbered
"""
_EVENTS = """
    INSERT INTO events (job_id, number, level, type, message, data, created_at)
    SELECT 'job_' || :name || n, 1, 'info', 'state', 'The job is queued.', '{}', at FROM numbered
"""
_ATTEMPTS = """
    INSERT INTO attempts (execution_id, number, worker_id, host, device, started_at, ended_at, outcome)
    SELECT 'exec_' || :name || n, 1, :worker_id, 'here', 'cpu', at,
        CASE :status WHEN 'succeeded' THEN at END, CASE :status WHEN 'succeeded' THEN 'succeeded' END
    FROM numbered
"""
_LEFT_BEHIND = [
    """
    INSERT INTO blobs (sha256, size_bytes, in_artifact, created_at)
    SELECT encode(sha256(convert_to(:name || n, 'utf8')), 'hex'), 1, true, at FROM numbered""",
    """
    INSERT INTO artifacts (id, team_id, execution_id, role, format, digest, size_bytes, created_at)
    SELECT 'art_' || :name || n, (CAST(:teams AS text[]))[1 + n % :team_count], 'exec_' || :name || n, 'intermediate',
        'gguf', encode(sha256(convert_to(:name || n, 'utf8')), 'hex'), 1, at
    FROM numbered""",
    """
    INSERT INTO artifact_files (artifact_id, name, sha256, size_bytes)
    SELECT 'art_' || :name || n, 'file', encode(sha256(convert_to(:name || n, 'utf8')), 'hex'), 1 FROM numbered""",
    """
    INSERT INTO log_chunks (execution_id, attempt, text, created_at)
    SELECT 'exec_' || :name || n, 1, 'text', at FROM numbered""",
    """
    INSERT INTO metrics (execution_id, attempt, layer, module, values, created_at)
    SELECT 'exec_' || :name || n, 1, 0, 'm', '{"loss": 1}', at FROM numbered""",
    """
    INSERT INTO idempotency_keys (team_id, key, body_sha256, answer, created_at)
    SELECT (CAST(:teams AS text[]))[1 + n % :team_count], :name || n, repeat('0', 64), '{}', at
    FROM numbered WHERE at > now() - interval '1 day'""",
]


_NUMBERED = """
    WITH numbered AS (
        SELECT n,
            now() - interval '1 minute' - make_interval(secs => :age_seconds * (1 - CAST(n AS float) / :count)) AS at
        FROM generate_series(1, :count) AS n
    )
"""
_FOREIGN_KEYS = """
    SELECT CAST(CAST(conrelid AS regclass) AS text) AS on_table, conname, pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE contype = 'f'
"""


def fill(database: Database, teams: Sequence[TeamId], worker_id: str, bulk: Bulk) -> None:
    """Write the rows, and let Postgres look at what there is now."""
    known = {"teams": list(teams), "team_count": len(teams), "worker_id": worker_id}
    with database.engine.begin() as connection, _without_foreign_keys(connection):

        def write(statements: Sequence[str], count: int, age_seconds: float, **values: Any) -> None:
            for statement in statements if count else ():
                numbers = {"count": count, "age_seconds": age_seconds}
                connection.execute(text(_NUMBERED + statement), {**known, **numbers, **values})

        rows = [_JOBS, _EXECUTIONS, _STEPS, _EVENTS]
        done = {"job_status": "succeeded", "status": "succeeded", "is_bound": True, "claims": 1}
        write([*rows, _ATTEMPTS, *_LEFT_BEHIND], bulk.finished, MONTHS_SECONDS, name="finished", **done)
        waiting = {"job_status": "queued", "status": "ready", "claims": 0}
        write(rows, bulk.ready, HOUR_SECONDS, name="ready", is_bound=True, **waiting)
        write([_JOBS, _STEPS, _EVENTS], bulk.unbound, HOUR_SECONDS, name="unbound", is_bound=False, **waiting)
        running = {"job_status": "running", "status": "running", "is_bound": True, "claims": 1}
        write([*rows, _ATTEMPTS], bulk.running, HOUR_SECONDS, name="running", **running)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


@contextlib.contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    """Check them all at once at the end: row by row that takes most of the time."""
    keys = connection.execute(text(_FOREIGN_KEYS)).all()
    for key in keys:
        connection.exec_driver_sql(f"ALTER TABLE {key.on_table} DROP CONSTRAINT {key.conname}")
    yield
    for key in keys:
        connection.exec_driver_sql(f"ALTER TABLE {key.on_table} ADD CONSTRAINT {key.conname} {key.definition}")
