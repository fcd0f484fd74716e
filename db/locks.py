"""Row locks, in the one order that cannot deadlock: executions by id, then jobs by id; and locks that have a name.

Whoever gives a step its execution holds the execution's lock, so nobody joins or leaves an execution that is locked.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Function, func, select, text
from sqlalchemy.orm import Session

from db.session import Interleaved
from db.states import ExecutionStatus, JobStatus, live
from db.tables import Execution, Job, Step, Sweep
from db.tables.base import sql_list

_LIVE_EXECUTIONS = live(ExecutionStatus)
_LIVE_JOBS = live(JobStatus)


@dataclass(frozen=True)
class LiveJob:
    """What the verbs need to know of a job that is not over, and locked."""

    id: str
    status: str
    max_attempts: int | None


class Purpose(enum.StrEnum):
    """What a named lock is for, so that names of one purpose are none of another."""

    HOST = "host"
    IDEMPOTENCY_KEY = "idempotency-key"
    QUOTA = "quota"


def wait_for(session: Session, purpose: Purpose, name: str) -> None:
    """Hold a named lock to the end of the transaction, as soon as it is free."""
    session.execute(select(func.pg_advisory_xact_lock(_number(purpose, name))))


def try_for(session: Session, purpose: Purpose, name: str) -> bool:
    """Hold a named lock to the end of the transaction if it is free; return whether it was."""
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(_number(purpose, name)))))


def share(purpose: Purpose, name: str) -> str:
    """Return the SQL expression that holds a lock to the end of the transaction beside all others that only share it.

    It waits while somebody holds the lock alone; nobody gets it alone while others share it.

    Args:
        purpose: of the lock.
        name: the parameter with its name, such as ``:host``.
    """
    return f"pg_advisory_xact_lock_shared(hashtextextended('{purpose} ' || CAST({name} AS text), 0))"


def _number(purpose: Purpose, name: str) -> Function[int]:
    return func.hashtextextended(f"{purpose} {name}", 0)


_LOCK_JOBS_ON = text(f"""
    SELECT id, status, max_attempts FROM jobs
    WHERE id IN (SELECT job_id FROM steps WHERE execution_id = :execution_id) AND status IN ({sql_list(_LIVE_JOBS)})
    ORDER BY id FOR UPDATE
""")


def _lock_jobs_on(session: Session, execution_id: str) -> Sequence[LiveJob]:
    """Lock the live jobs with a step on an execution whose row is locked already."""
    return [LiveJob(*row) for row in session.execute(_LOCK_JOBS_ON, {"execution_id": execution_id})]


def lock_execution(session: Session, execution_id: str) -> tuple[Execution, Sequence[LiveJob]]:
    """Lock an execution, every live job with a step on it, and the other live executions of those jobs.

    Returns:
        the execution, and the jobs by id.

    Raises:
        Interleaved: another transaction changed who waits on what meanwhile; run the verb again.
    """
    on_it = _jobs_on(session, execution_id)
    locked = _lock_executions(session, on_it, [execution_id])
    jobs = _lock_jobs_on(session, execution_id)
    if {job.id for job in jobs} != on_it or not live_executions(session, on_it) <= locked:
        raise Interleaved
    return session.get_one(Execution, execution_id), jobs


def lock_job(session: Session, job_id: str) -> Job:
    """Lock a job and its live executions.

    Raises:
        Interleaved: as ``lock_execution``.
    """
    (job,) = lock_jobs(session, {job_id})
    return job


def lock_sweep(session: Session, team_id: str, sweep_id: str) -> None:
    """Lock a sweep of a team, if it has it: no other transaction that does adds a job to it before this one ends."""
    of_team = select(Sweep.id).where(Sweep.id == sweep_id, Sweep.team_id == team_id)
    session.execute(of_team.with_for_update(key_share=True))


def lock_jobs(session: Session, job_ids: set[str]) -> Sequence[Job]:
    """Lock jobs and their live executions, and return the jobs by id.

    Raises:
        Interleaved: as ``lock_execution``.
    """
    locked = _lock_executions(session, job_ids, [])
    statement = select(Job).where(Job.id.in_(job_ids)).order_by(Job.id).with_for_update()
    jobs = session.scalars(statement.execution_options(populate_existing=True)).all()
    if not live_executions(session, job_ids) <= locked:
        raise Interleaved
    return jobs


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


def _lock_executions(session: Session, job_ids: set[str], others: list[str]) -> set[str]:
    """Lock the live executions of these jobs, and others, and return them all."""
    wanted = live_executions(session, job_ids).union(others)
    statement = select(Execution).where(Execution.id.in_(wanted)).order_by(Execution.id).with_for_update()
    session.scalars(statement.execution_options(populate_existing=True)).all()
    return wanted
