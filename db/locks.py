"""Row locks, in the one order that cannot deadlock: executions by id, then jobs by id."""

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.session import Interleaved
from db.states import ExecutionStatus, JobStatus, is_terminal
from db.tables import Execution, Job, Step

_LIVE_JOBS = [status.value for status in JobStatus if not is_terminal(status)]
_LIVE_EXECUTIONS = [status.value for status in ExecutionStatus if not is_terminal(status)]


def lock_execution(session: Session, execution_id: str) -> tuple[Execution, Sequence[Job]]:
    """Lock an execution, every live job with a step on it, and the other live executions of those jobs.

    Returns:
        the execution, and the jobs by id.

    Raises:
        Interleaved: another transaction changed who waits on what meanwhile; run the verb again.
    """
    jobs = _lock(session, [execution_id], _jobs_on(session, execution_id))
    if {job.id for job in jobs} != _jobs_on(session, execution_id):
        raise Interleaved
    return session.get_one(Execution, execution_id), jobs


def lock_job(session: Session, job_id: str) -> Job:
    """Lock a job and its live executions.

    Raises:
        Interleaved: as ``lock_execution``.
    """
    (job,) = _lock(session, [], {job_id})
    return job


def lock_jobs_on(session: Session, execution_id: str) -> Sequence[Job]:
    """Lock the live jobs with a step on an execution whose row is locked already."""
    statement = select(Job).where(Job.id.in_(_jobs_on(session, execution_id))).order_by(Job.id)
    return session.scalars(statement.with_for_update().execution_options(populate_existing=True)).all()


def live_executions(session: Session, job_ids: Iterable[str]) -> set[str]:
    """Return the executions, not yet over, on which steps of these jobs stand."""
    statement = (
        select(Execution.id)
        .join(Step, Step.execution_id == Execution.id)
        .where(Step.job_id.in_(job_ids), Execution.status.in_(_LIVE_EXECUTIONS))
    )
    return set(session.scalars(statement))


def _jobs_on(session: Session, execution_id: str) -> set[str]:
    statement = select(Job.id).join(Step).where(Step.execution_id == execution_id, Job.status.in_(_LIVE_JOBS))
    return set(session.scalars(statement))


def _lock(session: Session, executions: list[str], jobs: set[str]) -> Sequence[Job]:
    wanted = live_executions(session, jobs).union(executions)
    for_executions = select(Execution).where(Execution.id.in_(wanted)).order_by(Execution.id).with_for_update()
    session.scalars(for_executions.execution_options(populate_existing=True)).all()
    for_jobs = select(Job).where(Job.id.in_(jobs)).order_by(Job.id).with_for_update()
    locked = session.scalars(for_jobs.execution_options(populate_existing=True)).all()
    if not live_executions(session, jobs) <= wanted:
        raise Interleaved
    return locked
