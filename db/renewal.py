"""Renew every lease of a worker, by one statement, which also says that the worker is there.

Never waits for anybody: a lease whose row another transaction has locked at the moment is looked at without a lock, and
renewed the next time.
"""

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.ids import WorkerId
from db import watch
from db.notify import JOBS
from db.tokens import Lease


class LeaseState(enum.Enum):
    """What a renewal tells the holder."""

    HELD = enum.auto()
    STOP = enum.auto()  # nobody wants the work any more: kill the child, then say ``stopped``
    LOST = enum.auto()  # another holds it, or it is over: kill the child, say nothing


@dataclass(frozen=True)
class Renewal:
    """A lease to be renewed, with the progress of its work where there is news."""

    lease: Lease
    progress: Mapping[str, Any] | None


@dataclass(frozen=True)
class Renewed:
    """What became of one lease."""

    state: LeaseState
    is_written: bool  # whether it was extended, and its progress written


_RENEW = text(f"""
    WITH wanted AS (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:tokens AS bigint[]), CAST(:progress AS jsonb[]))
            AS wanted (id, token, progress)
    ), alive AS (
        UPDATE workers SET seen_at = clock_timestamp(), complaint = :complaint WHERE id = :worker_id
    ), held AS (
        SELECT executions.id, executions.token, executions.stop_requested_at
        FROM executions JOIN wanted USING (id, token)
        WHERE executions.status = 'running' AND NOT {watch.IS_OVER}
    ), free AS (
        SELECT executions.id, executions.token FROM executions JOIN held USING (id, token)
        WHERE executions.status = 'running' FOR UPDATE OF executions SKIP LOCKED
    ), renewed AS (
        UPDATE executions
        SET lease_expires_at = clock_timestamp() + make_interval(secs => :lease_seconds),
            progress = coalesce(wanted.progress, executions.progress)
        FROM free JOIN wanted USING (id, token)
        WHERE executions.id = free.id
        RETURNING executions.id, wanted.progress IS NOT NULL AS has_news
    ), told AS (
        SELECT count(pg_notify(:channel, steps.job_id)) FROM steps JOIN renewed ON renewed.id = steps.execution_id
        WHERE renewed.has_news
    )
    SELECT held.id, held.token, held.stop_requested_at IS NOT NULL AS is_unwanted, renewed.id IS NOT NULL AS is_written
    FROM held LEFT JOIN renewed USING (id), told
""")


def renew(
    session: Session, worker_id: WorkerId, renewals: Sequence[Renewal], lease_seconds: float, complaint: str | None
) -> Sequence[Renewed]:
    """Extend a worker's leases and record the progress.

    Args:
        session: the caller's transaction.
        worker_id: who holds them.
        renewals: what it holds; may be empty, since the worker is noted as alive all the same.
        lease_seconds: how long each lease lasts from now on.
        complaint: why the worker claims nothing, for the operator; None where it does.

    Returns:
        what became of each, in the order of ``renewals``.
    """
    rows = session.execute(
        _RENEW,
        {
            "ids": [one.lease.execution_id for one in renewals],
            "tokens": [one.lease.token for one in renewals],
            "progress": [None if one.progress is None else json.dumps(one.progress) for one in renewals],
            "worker_id": worker_id,
            "lease_seconds": lease_seconds,
            "complaint": complaint,
            "channel": JOBS,
        },
    )
    held = {Lease(row.id, row.token): row for row in rows}
    return [_renewed(held.get(one.lease)) for one in renewals]


def _renewed(row: Any) -> Renewed:
    if row is None:
        return Renewed(LeaseState.LOST, is_written=False)
    return Renewed(LeaseState.STOP if row.is_unwanted else LeaseState.HELD, is_written=row.is_written)
