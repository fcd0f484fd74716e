"""Bind a ready step to the execution of its content key: reuse, join, or start one."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from core.errors import ErrorDocument
from core.ids import new_id
from core.steps import Input, UnboundStep
from db import flow
from db.locks import lock_job
from db.notify import WORK, notify
from db.room import Need
from db.states import ExecutionStatus, StepStatus
from db.tables import Artifact, Execution, Job, Step
from db.tables.executions import IS_REUSABLE
from db.transition import transition_one

T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """What an execution does, under its key, and what it will need."""

    key: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    need: Need


class Binding(enum.Enum):
    """How a step got its execution."""

    REUSED = enum.auto()  # one had succeeded already
    JOINED = enum.auto()  # one is on its way
    STARTED = enum.auto()  # none was there
    POSTPONED = enum.auto()  # one is being stopped: look again
    GONE = enum.auto()  # the step is not ready and unbound any more


def unbound_steps(session: Session, after: str, limit: int) -> Sequence[UnboundStep]:
    """Return up to ``limit`` steps that are ready and have no execution yet, by id, from behind step ``after``."""
    statement = (
        select(Step)
        .where(Step.status == StepStatus.READY.value, Step.execution_id.is_(None), Step.id > after)
        .order_by(Step.id)
        .limit(limit)
        .options(
            selectinload(Step.job).selectinload(Job.steps).selectinload(Step.execution).selectinload(Execution.artifact)
        )
    )
    return [_unbound(step) for step in session.scalars(statement)]


def bind(session: Session, step: UnboundStep, work: Work) -> Binding:
    """Bind ``step`` to the one execution of ``work``; a reused result finishes the step at once."""
    started, execution = _find_or_start(session, step, work)
    if execution.stop_requested_at is not None:
        return Binding.POSTPONED
    session.scalars(select(Job.id).where(Job.id == step.job_id).with_for_update()).one()
    if not _is_unbound(session, step):
        if started:
            session.execute(delete(Execution).where(Execution.id == execution.id))
        return Binding.GONE
    row = session.get_one(Step, step.id)
    row.execution_id = execution.id
    session.flush()
    name, details = step.kind.capitalize(), {"step": step.kind}
    if execution.status == ExecutionStatus.SUCCEEDED:
        flow.start(session, step.job_id)
        flow.succeed(session, execution.id, f"{name} was done before; its result is reused.", details, reused=True)
        return Binding.REUSED
    flow.set_order(session, execution.id)
    if execution.status == ExecutionStatus.RUNNING:
        message = f"{name} runs already for another job; its result will be shared."
        flow.begin(session, execution.id, message, details)
    notify(session, WORK, step.pool)
    return Binding.STARTED if started else Binding.JOINED


def refuse(session: Session, step: UnboundStep, error: ErrorDocument) -> None:
    """Fail a step, and its job, whose work cannot even be described."""
    job = lock_job(session, step.job_id)
    if _is_unbound(session, step):
        transition_one(session, StepStatus.FAILED, step.id, error=error)
        flow.fail(session, job.id, error)


def _find_or_start(session: Session, step: UnboundStep, work: Work) -> tuple[bool, Execution]:
    reusable = text(IS_REUSABLE)
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
            **asdict(work.need),
        }
        new = insert(Execution).values(values).on_conflict_do_nothing(index_elements=["key"], index_where=reusable)
        started = session.scalar(new.returning(Execution.id)) is not None
        # The one found may end as failed between the two statements: then there is none, and the next round starts one.
        found = select(Execution).where(Execution.key == work.key, reusable).with_for_update()
        execution = session.scalar(_fresh(found))
        if execution is not None:
            return started, execution


def _is_unbound(session: Session, step: UnboundStep) -> bool:
    row = session.scalars(_fresh(select(Step).where(Step.id == step.id))).one()
    return row.status == StepStatus.READY and row.execution_id is None


def _fresh(statement: Select[T]) -> Select[T]:
    """Read rows as they are now, though the session may have seen them before."""
    return statement.execution_options(populate_existing=True)


def _unbound(step: Step) -> UnboundStep:
    executions = [(other.kind, other.execution) for other in step.job.steps if other.kind in step.needs]
    return UnboundStep(
        id=step.id,
        job_id=step.job_id,
        team_id=step.job.team_id,
        kind=step.kind,
        pool=step.pool,
        source=step.job.source,
        params=step.params,
        inputs={
            kind: _input(execution.artifact, execution.facts or {})
            for kind, execution in executions
            if execution is not None and execution.artifact is not None
        },
    )


def _input(artifact: Artifact, facts: Mapping[str, Any]) -> Input:
    return Input(artifact_id=artifact.id, digest=artifact.digest, facts=facts)
