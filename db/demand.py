"""How much work waits, by pool."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.states import POOLS

COUNT_MAX = 1000  # more than any pool's free slots, so counting further would tell nothing

_READY = text(f"""
    SELECT pools.name, (
        SELECT count(*) FROM (
            SELECT FROM executions
            WHERE status = 'ready' AND pool = pools.name AND ready_at <= clock_timestamp() LIMIT {COUNT_MAX}
        ) AS claimable
    ) + (
        SELECT count(*) FROM (
            SELECT FROM steps
            WHERE status = 'ready' AND execution_id IS NULL AND pool = pools.name LIMIT {COUNT_MAX}
        ) AS unbound
    ) AS count
    FROM (VALUES {", ".join(f"('{pool}')" for pool in POOLS)}) AS pools (name)
""")


def ready(session: Session) -> Mapping[str, int]:
    """Return how many executions could be claimed or steps bound in each pool, counted up to ``COUNT_MAX`` of each."""
    return {row["name"]: row["count"] for row in session.execute(_READY).mappings()}
