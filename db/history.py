"""Forget what nobody asks for any more: events and logs of jobs that were over long ago, workers long gone.

A job, its result and its error stay. A piece at a time, so that no lock is held for long.
"""

from collections.abc import Sequence

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

ROWS_AT_ONCE = 5000


# A query of its own, so that an index is used for it.
_OLD = "(SELECT clock_timestamp() - make_interval(secs => :older_than_seconds))"


def _delete_some(table: str, when: str, owner: str, owner_id: str) -> TextClause:
    """Delete the oldest rows whose owner was over long ago."""
    return text(f"""
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(
            SELECT old.ctid FROM {table} AS old JOIN {owner} AS owner ON owner.id = old.{owner_id}
            WHERE old.{when} < {_OLD} AND owner.finished_at < {_OLD}
            ORDER BY old.{when} LIMIT {ROWS_AT_ONCE}
        ))
    """)


_STATEMENTS = {
    "events": _delete_some("events", "created_at", "jobs", "job_id"),
    "log_chunks": _delete_some("log_chunks", "created_at", "executions", "execution_id"),
    "metrics": _delete_some("metrics", "created_at", "executions", "execution_id"),
    "attempts": _delete_some("attempts", "started_at", "executions", "execution_id"),
    "workers": text(f"""
        DELETE FROM workers WHERE seen_at < {_OLD}
          AND NOT EXISTS (SELECT FROM executions WHERE worker_id = workers.id)
          AND NOT EXISTS (SELECT FROM executions WHERE reserved_by = workers.id)
    """),
}
# Whoever has one locked deletes it, too.
_ABANDONED_INTENTS = text("""
    DELETE FROM blob_intents WHERE ctid = ANY (ARRAY(
        SELECT blob_intents.ctid FROM blob_intents JOIN executions ON executions.id = blob_intents.execution_id
        WHERE executions.token <> blob_intents.token OR executions.status <> 'running'
        FOR UPDATE OF blob_intents SKIP LOCKED
    ))
""")
TABLES: Sequence[str] = tuple(_STATEMENTS)


def forget(session: Session, table: str, older_than_seconds: float) -> int:
    """Delete rows of one of ``TABLES`` that are older, and return how many; there may be more."""
    return session.connection().execute(_STATEMENTS[table], {"older_than_seconds": older_than_seconds}).rowcount


def forget_intents(session: Session) -> int:
    """Delete the announcements of uploads by attempts that are over, and return how many."""
    return session.connection().execute(_ABANDONED_INTENTS).rowcount
