"""How a job moves on: what becomes ready, what is let go, when it is over. The caller holds the locks."""

from collections.abc import Iterable

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.errors import ErrorDocument
from db import clock, events
from db.locks import live_executions
from db.notify import WORK, notify
from db.states import LIVE_STEP, ExecutionStatus, JobStatus, StepStatus
from db.tables import Execution, Job, Step
from db.transition import transition, transition_one


def start(session: Session, job: Job) -> None:
    """Mark a queued job as running; one that runs already stays as it is."""
    if transition(session, JobStatus.RUNNING, Job.id == job.id, started_at=clock.now()):
        events.record(session, job.id, "The job has started.")


def advance(session: Session, job: Job) -> None:
    """Make ready the steps that wait for nothing any more; finish the job when every step has succeeded."""
    statement = select(Step).where(Step.job_id == job.id).order_by(Step.position)
    steps = session.scalars(statement.execution_options(populate_existing=True)).all()
    done = {step.kind for step in steps if step.status == StepStatus.SUCCEEDED}
    for step in steps:
        if step.status == StepStatus.WAITING and done.issuperset(step.needs):
            transition_one(session, StepStatus.READY, step.id)
            notify(session, WORK, step.pool)
    if len(done) == len(steps):
        transition_one(session, JobStatus.SUCCEEDED, job.id)
        events.record(session, job.id, "The job has succeeded.")


def fail(session: Session, job: Job, error: ErrorDocument) -> None:
    """End a job with an error; what it still waited on is let go."""
    let_go(session, job, StepStatus.SKIPPED)
    transition_one(session, JobStatus.FAILED, job.id, error=error)
    events.record(session, job.id, f"The job has failed: {error['message']}", level="error", error=dict(error))


def let_go(session: Session, job: Job, to: StepStatus) -> None:
    """Move a job's unfinished steps to ``to``; stop the executions that no other job waits on."""
    executions = live_executions(session, [job.id])
    transition(session, to, Step.job_id == job.id)
    wanted = _wanted(session, executions)
    unwanted = executions - wanted
    transition(
        session,
        ExecutionStatus.CANCELLED,
        Execution.id.in_(unwanted) & (Execution.status == ExecutionStatus.READY.value),
    )
    session.execute(
        update(Execution)
        .where(Execution.id.in_(unwanted), Execution.status == ExecutionStatus.RUNNING.value)
        .values(stop_requested_at=func.coalesce(Execution.stop_requested_at, clock.now()))
    )
    for execution_id in wanted:
        set_priority(session, execution_id)


def settle_cancelled(session: Session, jobs: Iterable[Job]) -> None:
    """Finish the cancelling among ``jobs`` that have no child left to stop."""
    for job in jobs:
        if job.status == JobStatus.CANCELLING and not _stopping(session, job.id):
            transition_one(session, JobStatus.CANCELLED, job.id)
            events.record(session, job.id, "The job is cancelled.")


def cancel(session: Session, job: Job) -> None:
    """Let go of everything; the job is cancelled once the last child that worked for it alone has ended."""
    let_go(session, job, StepStatus.CANCELLED)
    if _stopping(session, job.id):
        transition_one(session, JobStatus.CANCELLING, job.id)
        events.record(session, job.id, "Cancel was asked for; the running step is being stopped.")
    else:
        transition_one(session, JobStatus.CANCELLED, job.id)
        events.record(session, job.id, "The job is cancelled.")


def set_priority(session: Session, execution_id: str) -> None:
    """Give an execution the highest priority of the jobs that wait on it."""
    highest = (
        select(func.max(Job.priority))
        .join(Step)
        .where(Step.execution_id == execution_id, Step.status.in_(LIVE_STEP))
        .scalar_subquery()
    )
    session.execute(update(Execution).where(Execution.id == execution_id).values(priority=highest))


def _wanted(session: Session, executions: Iterable[str]) -> set[str]:
    statement = select(Step.execution_id).where(Step.execution_id.in_(executions), Step.status.in_(LIVE_STEP))
    return {execution_id for execution_id in session.scalars(statement) if execution_id is not None}


def _stopping(session: Session, job_id: str) -> bool:
    statement = (
        select(Execution.id)
        .join(Step, Step.execution_id == Execution.id)
        .where(
            Step.job_id == job_id,
            Execution.status == ExecutionStatus.RUNNING.value,
            Execution.stop_requested_at.is_not(None),
        )
    )
    return session.scalars(statement.limit(1)).first() is not None
