"""Claim: the next execution for a worker, fair between teams.

The teams are ranked by what they have used of the pool lately and are using, each by a look-up into its queue; then one
row of the first team is locked, past rows that others hold, else of the next team. Locking every head, or pinning the
row to the head's priority, would hide work from concurrent claimers.

Some work is alone on its host: what measures the machine, and what all but the last of the workers that it may lose
have died over, so that it harms no other if it is poison. It is taken while nothing runs on any worker of the host, and
none of these takes anything beside it. Each claim shares a lock of its host's name; what is to be alone is taken under
that lock alone, so that no claim is under way that it cannot see yet.

What is too large for what is free at the moment is passed over, and so is what cannot be alone yet. Work that has been
passed over for long gets the device that would fit it reserved: the worker claims nothing else for that device until
the work fits, and no worker of the host claims anything where the work must be alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.orm import Session

from core.ids import ExecutionId, WorkerId
from db import flow, locks, quotas
from db.locks import Purpose
from db.room import Need, Room, fits
from db.session import Interleaved
from db.states import ExecutionStatus, origins
from db.tables.base import sql_list
from db.tokens import Lease
from db.usage import DECAYED, USED_SECONDS

PASSED_OVER_SECONDS = 600.0  # then the next device that fits is reserved


@dataclass(frozen=True)
class Claimer:
    """A device of a worker, which has room for a child.

    Attributes:
        worker_id: who claims.
        pool: the worker's pool.
        host: the machine, which it may share with other workers.
        device: the device's name.
        room: what is free there.
        capacity: what would be free if nothing else ran on the worker.
        running_max: how many executions of the pool a team may run at once, where it has no quota of its own.
        is_idle: whether nothing runs on the worker.
        deaths_max: how many workers may die over one piece of work.
    """

    worker_id: WorkerId
    pool: str
    host: str
    device: str
    room: Room
    capacity: Room
    running_max: int | None = None
    is_idle: bool = True
    deaths_max: int = 3


@dataclass(frozen=True)
class Claim:
    """A lease and the work it is for; ``need`` is all that the worker has where the work must be alone."""

    lease: Lease
    kind: str
    attempt: int
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    need: Need


_IS_ALONE = "(executions.is_exclusive OR executions.lost_count >= :deaths_alone)"
_HOST_IS_BUSY = """EXISTS (
    SELECT FROM executions AS other JOIN workers ON workers.id = other.worker_id
    WHERE other.status = 'running' AND workers.host = :host
)"""
_HOST_IS_TAKEN = """EXISTS (
    SELECT FROM executions AS other JOIN workers ON workers.id = other.worker_id
    WHERE other.status = 'running' AND other.is_exclusive AND workers.host = :host
)"""
# By what can run there once all else has ended: not by that of a paused pool, nor of a team that may run nothing more
# even then, as it has its quota running on other hosts. Of what runs here its team's part is waited for.
_HOST_IS_KEPT = """EXISTS (
    SELECT FROM executions AS other JOIN workers ON workers.id = other.reserved_by
    LEFT JOIN team_quotas AS quota ON quota.team_id = other.team_id AND quota.name = 'running_' || other.pool
    WHERE other.reserved_by IS NOT NULL AND other.is_exclusive AND workers.host = :host
      AND (other.reserved_by, other.reserved_device) <> (:worker_id, :device)
      AND NOT EXISTS (SELECT FROM paused_pools WHERE paused_pools.pool = other.pool)
      AND (coalesce(quota.maximum, CAST(:running_max AS integer)) IS NULL OR (
        SELECT count(*) FROM executions AS running JOIN workers AS its ON its.id = running.worker_id
        WHERE running.status = 'running' AND running.team_id = other.team_id AND running.pool = other.pool
          AND its.host <> :host
      ) < coalesce(quota.maximum, CAST(:running_max AS integer)))
)"""
_HAS_ROOM = f"""(
    {fits(":room_")} AND (NOT {_IS_ALONE} OR CAST(:is_idle AS boolean) AND NOT {_HOST_IS_BUSY})
)"""
_READY = """executions.status = 'ready' AND executions.pool = :pool AND executions.ready_at <= clock_timestamp()"""

# For each team the head of its queue for this device, had it nothing else to do, and whether that fits now; what of the
# team's is reserved for the device. Nothing where the pool is paused, the worker drained, or the host taken by what is
# alone on it. A device that has become too small for what is reserved, as when its disk has filled up, gives it up.
_RANKED_TEAMS = text(f"""
    WITH given_up AS (
        UPDATE executions SET reserved_by = NULL, reserved_device = NULL WHERE id = ANY (ARRAY(
            SELECT id FROM executions
            WHERE reserved_by = :worker_id AND reserved_device = :device AND NOT {fits(":capacity_")}
            FOR UPDATE SKIP LOCKED
        ))
    ), host AS MATERIALIZED (
        SELECT {locks.share(Purpose.HOST, ":host")}, {_HOST_IS_KEPT} AS is_kept
    )
    SELECT teams.id AS team_id, head.id AS head_id, head.has_room, head.is_alone, host.is_kept,
        coalesce(quota.maximum, :running_max) AS running_max, (
        SELECT id FROM executions
        WHERE reserved_by = :worker_id AND reserved_device = :device AND team_id = teams.id AND {_READY}
          AND {fits(":capacity_")} LIMIT 1
    ) AS reserved_id
    FROM host
    CROSS JOIN teams
    CROSS JOIN LATERAL (
        SELECT id, {_HAS_ROOM} AS has_room, {_IS_ALONE} AS is_alone FROM executions
        WHERE {_READY} AND team_id = teams.id AND {fits(":capacity_")}
        ORDER BY priority DESC, queued_at, id LIMIT 1
    ) AS head
    LEFT JOIN team_usage AS usage ON usage.team_id = teams.id AND usage.pool = :pool
    LEFT JOIN team_quotas AS quota ON quota.team_id = teams.id AND quota.name = :quota
    WHERE NOT EXISTS (SELECT FROM paused_pools WHERE paused_pools.pool = :pool)
      AND NOT EXISTS (SELECT FROM workers WHERE workers.id = :worker_id AND drained_at IS NOT NULL)
      AND NOT {_HOST_IS_TAKEN}
    ORDER BY coalesce({DECAYED}, 0) + coalesce((
        SELECT sum({USED_SECONDS}) FROM executions WHERE status = 'running' AND team_id = teams.id AND pool = :pool
    ), 0), teams.id
""")

# Then the host's memory is taken for what would be a GPU's.
_ON_CPU = "CAST(:room_vram_bytes AS bigint) IS NULL"
_TAKE = """
    WITH head AS (
        SELECT id FROM executions WHERE {which}
        ORDER BY priority DESC, queued_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE executions
        SET status = 'running', worker_id = :worker_id, token = token + 1, attempt = attempt + 1,
            lease_expires_at = clock_timestamp() + make_interval(secs => :lease_seconds),
            started_at = clock_timestamp(), progress = NULL, is_exclusive = {is_alone},
            passed_over_at = NULL, reserved_by = NULL, reserved_device = NULL
        FROM head WHERE executions.id = head.id AND executions.status IN ({origins})
        RETURNING executions.*
    ), begun AS (
        INSERT INTO attempts (
            execution_id, number, worker_id, host, device, started_at,
            forecast_memory_bytes, forecast_vram_bytes, forecast_scratch_bytes
        )
        SELECT id, attempt, :worker_id, :host, :device, started_at,
            memory_bytes + CASE WHEN {on_cpu} THEN vram_bytes ELSE 0 END,
            CASE WHEN {on_cpu} THEN 0 ELSE vram_bytes END, scratch_bytes
        FROM taken
    )
    SELECT id, token, kind, attempt, params, inputs, memory_bytes, vram_bytes, scratch_bytes, needs_gpu, is_exclusive
    FROM taken
"""
_ORIGINS = sql_list(origins(ExecutionStatus.RUNNING))
_TAKE_HEAD, _TAKE_RESERVED = (
    text(
        _TAKE.format(
            which=f"{_READY} AND {whose} AND {_HAS_ROOM} AND NOT {_HOST_IS_TAKEN}",
            origins=_ORIGINS,
            on_cpu=_ON_CPU,
            is_alone=_IS_ALONE,
        )
    )
    for whose in ("team_id = :team_id", "id = :reserved_id")
)

_PASS_OVER = text(f"""
    WITH head AS (
        SELECT id, passed_over_at < clock_timestamp() - make_interval(secs => :patience_seconds) AS is_due
        FROM executions WHERE id = :head_id AND status = 'ready' AND reserved_by IS NULL FOR UPDATE SKIP LOCKED
    )
    UPDATE executions
    SET passed_over_at = coalesce(passed_over_at, clock_timestamp()),
        reserved_by = CASE WHEN is_due THEN :worker_id END,
        reserved_device = CASE WHEN is_due THEN :device END,
        is_exclusive = CASE WHEN is_due THEN {_IS_ALONE} ELSE executions.is_exclusive END
    FROM head WHERE executions.id = head.id AND (passed_over_at IS NULL OR is_due)
    RETURNING reserved_by IS NOT NULL
""")


def claim(session: Session, claimer: Claimer, lease_seconds: float) -> Claim | None:
    """Take the next execution that fits, or None.

    Args:
        session: the caller's transaction.
        claimer: who claims, for which device.
        lease_seconds: how long the lease lasts unless it is renewed.

    Raises:
        Interleaved: what there is belongs to a team with a quota, for which another claim goes on.
    """
    wanted = {
        **claimer.room.parameters("room"),
        **claimer.capacity.parameters("capacity"),
        "worker_id": claimer.worker_id,
        "pool": claimer.pool,
        "host": claimer.host,
        "device": claimer.device,
        "quota": quotas.RUNNING[claimer.pool].value,
        "running_max": claimer.running_max,
        "is_idle": claimer.is_idle,
        "lease_seconds": lease_seconds,
        "deaths_alone": max(1, claimer.deaths_max - 1),
        "patience_seconds": PASSED_OVER_SECONDS,
    }
    teams = session.execute(_RANKED_TEAMS, wanted).all()
    for team in _in_turn(session, claimer.pool, sorted(teams, key=lambda team: team.reserved_id is None)):
        if team.reserved_id is not None:
            own = {**wanted, "reserved_id": team.reserved_id, "is_idle": _may_be_alone(session, claimer)}
            return _take(session, claimer, _TAKE_RESERVED, own)
        if team.is_kept or (not team.has_room and session.scalar(_PASS_OVER, {**wanted, "head_id": team.head_id})):
            return None
        is_idle = team.has_room and team.is_alone and _may_be_alone(session, claimer)
        taken = _take(session, claimer, _TAKE_HEAD, {**wanted, "team_id": team.team_id, "is_idle": is_idle})
        if taken is not None:
            return taken
    return None


def _may_be_alone(session: Session, claimer: Claimer) -> bool:
    """Return whether nothing runs on the worker, and no other claim of its host is under way, to the end of this one.

    What runs on the host's other workers is then seen by whoever looks.
    """
    return claimer.is_idle and locks.try_for(session, Purpose.HOST, claimer.host)


def _in_turn(session: Session, pool: str, teams: Sequence[Row[Any]]) -> Iterator[Row[Any]]:
    """Yield the teams that may run more; of those with a quota only one claim at a time goes on.

    One for which another claim goes on is waited for if there is nothing else, and only while no other turn is held, so
    that no two claims wait for each other.

    Raises:
        Interleaved: such a team is next, and must not be waited for.
    """
    busy: list[Row[Any]] = []
    holds_a_turn = False
    for team in teams:
        if team.running_max is None:
            yield team
        elif quotas.try_turn(session, team.team_id, pool):
            holds_a_turn = True
            if quotas.may_run(session, team.team_id, pool, team.running_max):
                yield team
        elif team.reserved_id is not None:
            raise Interleaved
        else:
            busy.append(team)
    if busy and holds_a_turn:
        raise Interleaved
    for team in busy[:1]:
        quotas.wait_for_turn(session, team.team_id, pool)
        if quotas.may_run(session, team.team_id, pool, team.running_max):
            yield team


def _take(session: Session, claimer: Claimer, statement: TextClause, wanted: Mapping[str, Any]) -> Claim | None:
    row = session.execute(statement, wanted).one_or_none()
    if row is None:
        return None
    message = f"{row.kind.capitalize()} has started (attempt {row.attempt})."
    details = {"step": row.kind, "attempt": row.attempt}
    flow.begin(session, row.id, message, details)
    return Claim(
        lease=Lease(ExecutionId(row.id), row.token),
        kind=row.kind,
        attempt=row.attempt,
        params=row.params,
        inputs=row.inputs,
        need=claimer.capacity.whole() if row.is_exclusive else Need.of(row),
    )
