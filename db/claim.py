"""Claim: the next execution for a worker, fair between teams.

The teams are ranked by what they have used of the pool lately, each by a look-up of the head of its queue; then one
row of the first team is locked, past rows that others hold, else of the next team. Locking every head, or pinning
the row to the head's priority, would hide work from concurrent claimers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.ids import ExecutionId, WorkerId
from db import clock, events, flow
from db.locks import lock_jobs_on
from db.states import ExecutionStatus, StepStatus
from db.tables import Execution, Step, TeamUsage
from db.tokens import Lease
from db.transition import transition, transition_one

HALF_LIFE_SECONDS = 3600.0
CLAIM_CHARGE_SECONDS = 1.0  # counted at once, so that teams take turns before anything has finished

_RANKED_TEAMS = text("""
    SELECT teams.id
    FROM teams
    CROSS JOIN LATERAL (
        SELECT 1 FROM executions
        WHERE status = 'ready' AND pool = :pool AND team_id = teams.id AND ready_at <= clock_timestamp()
          AND memory_bytes <= :memory_bytes AND scratch_bytes <= :scratch_bytes
        LIMIT 1
    ) AS head
    LEFT JOIN team_usage AS usage ON usage.team_id = teams.id AND usage.pool = :pool
    ORDER BY coalesce(
        usage.pool_seconds * power(0.5, extract(epoch FROM clock_timestamp() - usage.updated_at) / :half_life), 0
    ), teams.id
""")

_HEAD = text("""
    SELECT id FROM executions
    WHERE status = 'ready' AND pool = :pool AND team_id = :team_id AND ready_at <= clock_timestamp()
      AND memory_bytes <= :memory_bytes AND scratch_bytes <= :scratch_bytes
    ORDER BY priority DESC, ready_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
""")


@dataclass(frozen=True)
class Room:
    """Memory and scratch disk: what a worker has free, or what a piece of work needs."""

    memory_bytes: int
    scratch_bytes: int


@dataclass(frozen=True)
class Claim:
    """A lease and the work it is for."""

    lease: Lease
    kind: str
    attempt: int
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    room: Room


def claim(session: Session, worker_id: WorkerId, pool: str, room: Room, lease_seconds: float) -> Claim | None:
    """Take the next execution that fits, or None.

    Args:
        session: the caller's transaction.
        worker_id: who claims.
        pool: the worker's pool.
        room: what the worker has free.
        lease_seconds: how long the lease lasts unless it is renewed.
    """
    limits = {"pool": pool, "memory_bytes": room.memory_bytes, "scratch_bytes": room.scratch_bytes}
    for team_id in session.scalars(_RANKED_TEAMS, {**limits, "half_life": HALF_LIFE_SECONDS}).all():
        execution_id = session.scalar(_HEAD, {**limits, "team_id": team_id})
        if execution_id is not None:
            claimed = _take(session, execution_id, worker_id, lease_seconds)
            charge(session, team_id, pool, CLAIM_CHARGE_SECONDS)
            return claimed
    return None


def charge(session: Session, team_id: str, pool: str, pool_seconds: float) -> None:
    """Count ``pool_seconds`` against a team, after what it used before has decayed."""
    new = insert(TeamUsage).values(team_id=team_id, pool=pool, pool_seconds=pool_seconds, updated_at=clock.now())
    age_seconds = func.extract("epoch", clock.now() - TeamUsage.updated_at)
    decayed = TeamUsage.pool_seconds * func.power(0.5, age_seconds / HALF_LIFE_SECONDS)
    session.execute(
        new.on_conflict_do_update(
            index_elements=["team_id", "pool"],
            set_={"pool_seconds": decayed + pool_seconds, "updated_at": clock.now()},
        )
    )


def _take(session: Session, execution_id: str, worker_id: WorkerId, lease_seconds: float) -> Claim:
    jobs = lock_jobs_on(session, execution_id)
    transition_one(
        session,
        ExecutionStatus.RUNNING,
        execution_id,
        worker_id=worker_id,
        token=Execution.token + 1,
        attempt=Execution.attempt + 1,
        lease_expires_at=clock.after(lease_seconds),
        started_at=clock.now(),
        progress=None,
    )
    execution = session.scalars(
        select(Execution).where(Execution.id == execution_id).execution_options(populate_existing=True)
    ).one()
    on_execution = Step.execution_id == execution_id
    transition(session, StepStatus.RUNNING, on_execution, started_at=func.coalesce(Step.started_at, clock.now()))
    for job in jobs:
        flow.start(session, job)
        message = f"{execution.kind.capitalize()} has started (attempt {execution.attempt})."
        events.record(session, job.id, message, step=execution.kind, attempt=execution.attempt)
    return Claim(
        lease=Lease(ExecutionId(execution.id), execution.token),
        kind=execution.kind,
        attempt=execution.attempt,
        params=execution.params,
        inputs=execution.inputs,
        room=Room(execution.memory_bytes, execution.scratch_bytes),
    )
