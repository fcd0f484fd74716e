"""From what a client asked for to a job, in the caller's transaction: the one way, for new requests and for retries.

Refuses to know: who asks, and how the answer is sent.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.considering import Considered, consider
from api.problems import pointer
from api.requests import JobRequest, JobTerms
from api.services import services
from core.errors import InvalidRequest
from core.ids import JobId, TeamId
from db import jobs
from db.jobs import NewJob
from db.shown import ShownJob

Asked = TypeVar("Asked", bound=JobTerms)


def submit_request(session: Session, team_id: TeamId, wanted: JobRequest) -> JobId:
    """Write the job that a request asks for.

    Raises:
        RequestError: the recipe, the source or the destination is not one that this service takes.
        NoCapacity: no worker could ever run it.
        QuotaExceeded: the team has as many queued jobs as it may have.
    """
    return jobs.submit(session, team_id, _new_job(session, team_id, wanted))


def retry_job(session: Session, team_id: TeamId, job_id: str) -> JobId:
    """Write a job that asks for what one that is over has asked for, planned as this version plans.

    Raises:
        NotFound: there is none of that id in this team.
        Conflict: it is not over yet, or another has its place in the sweep already.
        RequestError: this service does not take the request any more.
        NoCapacity: no worker could ever run it.
        QuotaExceeded: the team has as many queued jobs as it may have.
    """
    return jobs.retry(session, team_id, job_id, lambda job: _new_job(session, team_id, _request_of(job)))


def _new_job(session: Session, team_id: TeamId, wanted: JobRequest) -> NewJob:
    considered = consider(session, team_id, wanted)
    for refusal in considered.refusals:
        raise refusal
    return new_job(wanted, considered)


def new_job(wanted: JobRequest, considered: Considered) -> NewJob:
    """Return the job that a request asks for, which nothing speaks against."""
    settings = services().settings
    return NewJob(
        source=considered.source,
        method=considered.recipe.method.name,
        recipe=considered.recipe.document(),
        evaluation=wanted.evaluation.model_dump(),
        gate=tuple(condition.model_dump() for condition in wanted.gate),
        metadata=wanted.metadata,
        labels=tuple(wanted.labels),
        priority=wanted.priority,
        max_runtime_seconds=wanted.max_runtime_seconds or settings.max_runtime_seconds,
        max_pending_seconds=wanted.max_pending_seconds or settings.max_pending_seconds,
        max_attempts=wanted.max_attempts,
        wait_for_capacity=wanted.wait_for_capacity,
        publish_to=considered.publish_to,
        benchmark=None if wanted.benchmark is None else wanted.benchmark.model_dump(),
        steps=considered.steps,
        warnings=considered.warnings,
    )


def _request_of(job: ShownJob) -> JobRequest:
    """Return the request that a stored job was made from, checked as if it came today."""
    return stored_request(JobRequest, {name: getattr(job, name) for name in JobRequest.model_fields})


def stored_request(kind: type[Asked], stored: Mapping[str, Any]) -> Asked:
    """Return what was asked for earlier, checked as if it came today.

    Raises:
        InvalidRequest: this version does not take it any more.
    """
    try:
        return kind.model_validate(stored)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(
            f"This version does not take any more what was asked for then: {pointer(first['loc'])}: {first['msg']}. "
            "Submit it anew."
        ) from None
