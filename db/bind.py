"""Bind a ready step to the execution of its content key: reuse, join, or start one."""

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row, delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.errors import ErrorDocument
from core.ids import new_id
from core.steps import Input, UnboundStep
from db import flow
from db.locks import lock_job
from db.room import Need
from db.states import ExecutionStatus, StepStatus
from db.tables import Execution, Job
from db.tables.executions import IS_REUSABLE
from db.transition import transition_one

_IS_READY_AND_UNBOUND = "steps.status = 'ready' AND steps.execution_id IS NULL"
_UNBOUND = text(f"""
    SELECT steps.id, steps.job_id, jobs.team_id, steps.kind, steps.pool, jobs.source, steps.params,
        jobs.sweep_id, coalesce((
        SELECT jsonb_object_agg(needed.kind, jsonb_build_object(
            'artifact_id', artifacts.id, 'digest', artifacts.digest, 'facts', coalesce(executions.facts, '{{}}')
        ))
        FROM steps AS needed
        JOIN executions ON executions.id = needed.execution_id
        JOIN artifacts ON artifacts.execution_id = executions.id
        WHERE needed.job_id = steps.job_id AND needed.kind = ANY (steps.needs)
    ), '{{}}') AS inputs
    FROM steps JOIN jobs ON jobs.id = steps.job_id
    WHERE {_IS_READY_AND_UNBOUND} AND steps.id > :after ORDER BY steps.id LIMIT :limit
""")
_IS_UNBOUND = text(f"SELECT {_IS_READY_AND_UNBOUND} FROM steps WHERE id = :step_id")
_BIND = text(f"""
    UPDATE steps SET execution_id = :execution_id WHERE id = :step_id AND {_IS_READY_AND_UNBOUND} RETURNING id
""")


_FETCHED = text("""
    WITH recent AS (
        SELECT id, source FROM jobs WHERE team_id = :team_id ORDER BY created_at DESC, id DESC LIMIT 200
    )
    SELECT artifacts.id AS artifact_id, artifacts.digest, executions.facts, executions.finished_at
    FROM recent
    JOIN steps ON steps.job_id = recent.id AND steps.kind = 'fetch'
    JOIN executions ON executions.id = steps.execution_id
    JOIN artifacts ON artifacts.execution_id = executions.id
    WHERE recent.source = :source AND executions.status = 'succeeded' AND executions.lost_at IS NULL
    ORDER BY executions.finished_at DESC LIMIT 1
""")
_DONE = text(f"""
    SELECT artifacts.id AS artifact_id, artifacts.digest, executions.facts
    FROM executions LEFT JOIN artifacts ON artifacts.execution_id = executions.id
    WHERE executions.key = :key AND executions.status = 'succeeded' AND {IS_REUSABLE}
""")


@dataclass(frozen=True)
class Fetched:
    """A snapshot of a source, and when it was made."""

    output: Input
    at: dt.datetime


@dataclass(frozen=True)
class Done:
    """Work that has succeeded and is reused, and what it left; None where it leaves no files."""

    output: Input | None


@dataclass(frozen=True)
class Work:
    """What an execution does, under its key, and what it will need.

    Attributes:
        is_external: whether it completes once it has begun.
        is_exclusive: whether nothing else runs on its host meanwhile.
    """

    key: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    need: Need
    is_external: bool = False
    is_exclusive: bool = False


class Binding(enum.Enum):
    """How a step got its execution."""

    REUSED = enum.auto()  # one had succeeded already
    JOINED = enum.auto()  # one is on its way
    STARTED = enum.auto()  # none was there
    POSTPONED = enum.auto()  # one is being stopped: look again
    GONE = enum.auto()  # the step is not ready and unbound any more


def unbound_steps(session: Session, after: str, limit: int) -> Sequence[UnboundStep]:
    """Return up to ``limit`` steps that are ready and have no execution yet, by id, from behind step ``after``."""
    rows = session.execute(_UNBOUND, {"after": after, "limit": limit}).mappings()
    return [
        UnboundStep(**{**row, "inputs": {kind: Input(**value) for kind, value in row["inputs"].items()}})
        for row in rows
    ]


def last_fetched(session: Session, team_id: str, source: str) -> Fetched | None:
    """Return the newest snapshot of a source that one of a team's newest jobs has made."""
    row = session.execute(_FETCHED, {"team_id": team_id, "source": source}).one_or_none()
    return None if row is None else Fetched(Input(row.artifact_id, row.digest, row.facts or {}), row.finished_at)


def done_before(session: Session, key: str) -> Done | None:
    """Return the work of a key, if a step of that key would be done at once."""
    row = session.execute(_DONE, {"key": key}).one_or_none()
    if row is None:
        return None
    return Done(None if row.artifact_id is None else Input(row.artifact_id, row.digest, row.facts or {}))


def bind(session: Session, step: UnboundStep, work: Work) -> Binding:
    """Bind ``step`` to the one execution of ``work``; a reused result finishes the step at once.

    Nobody is told: whoever listens for work was when the step became ready.
    """
    started, execution = _find_or_start(session, step, work)
    if execution.stop_requested_at is not None:
        return Binding.POSTPONED
    session.scalars(select(Job.id).where(Job.id == step.job_id).with_for_update()).one()
    if session.scalar(_BIND, {"step_id": step.id, "execution_id": execution.id}) is None:
        if started:
            session.execute(delete(Execution).where(Execution.id == execution.id))
        return Binding.GONE
    name, details = step.kind.capitalize(), {"step": step.kind}
    if execution.status == ExecutionStatus.SUCCEEDED:
        flow.start(session, step.job_id)
        flow.succeed(session, execution.id, f"{name} was done before; its result is reused.", details, reused=True)
        return Binding.REUSED
    flow.set_order(session, execution.id)
    if execution.status == ExecutionStatus.RUNNING:
        message = f"{name} runs already for another job; its result will be shared."
        flow.begin(session, execution.id, message, details)
    return Binding.STARTED if started else Binding.JOINED


def refuse(session: Session, step: UnboundStep, error: ErrorDocument) -> None:
    """Fail a step, and its job, whose work cannot even be described."""
    job = lock_job(session, step.job_id)
    if session.scalar(_IS_UNBOUND, {"step_id": step.id}):
        transition_one(session, StepStatus.FAILED, step.id, error=error)
        flow.fail(session, job.id, error)


def _find_or_start(session: Session, step: UnboundStep, work: Work) -> tuple[bool, Row[str, str, dt.datetime | None]]:
    """Return whether the execution of ``work`` is new, and its ``id``, ``status`` and ``stop_requested_at``, locked."""
    reusable = text(IS_REUSABLE)
    shown = (Execution.id, Execution.status, Execution.stop_requested_at)
    while True:
        values = {
            "id": new_id("exec"),
            "team_id": step.team_id,
            "key": work.key,
            "kind": step.kind,
            "pool": step.pool,
            "params": dict(work.params),
            "inputs": dict(work.inputs),
            "priority": 0,
            "is_external": work.is_external,
            "is_exclusive": work.is_exclusive,
            **asdict(work.need),
        }
        new = insert(Execution).values(values).on_conflict_do_nothing(index_elements=["key"], index_where=reusable)
        started = session.execute(new.returning(*shown)).one_or_none()
        if started is not None:
            return True, started
        # The one found may end as failed between the two statements: then there is none, and the next round starts one.
        found = session.execute(select(*shown).where(Execution.key == work.key, reusable).with_for_update())
        if (execution := found.one_or_none()) is not None:
            return False, execution
