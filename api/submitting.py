"""From what a client asked for to a job, in the caller's transaction: the one way, for new requests and for retries.

Refuses to know: who asks, and how the answer is sent.
"""

from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.problems import pointer
from api.requests import JobRequest
from api.services import services
from core.errors import InvalidRequest
from core.ids import JobId, TeamId
from db import jobs
from db.jobs import NewJob
from db.tables import Job
from engines.recipe import parse_recipe
from pipeline.plan import plan
from pipeline.precheck import check_model
from pipeline.sources import check_source


def submit_request(session: Session, team_id: TeamId, wanted: JobRequest) -> JobId:
    """Write the job that a request asks for.

    Raises:
        RequestError: the recipe or the source is not one that this service takes.
    """
    return jobs.submit(session, team_id, _new_job(wanted))


def retry_job(session: Session, team_id: TeamId, job_id: str) -> JobId:
    """Write a new job that asks for what a job that is over has asked for, planned as this version plans.

    Raises:
        NotFound: there is none of that id in this team.
        Conflict: it is not over yet.
        RequestError: this service does not take the request any more.
    """
    return jobs.retry(session, team_id, job_id, lambda job: _new_job(_request_of(job)))


def _new_job(wanted: JobRequest) -> NewJob:
    recipe = parse_recipe(wanted.recipe)
    evaluation = wanted.evaluation.model_dump()
    roots = services().settings.source_roots
    source = check_source(wanted.source, roots)
    check_model(recipe, source, roots)
    return NewJob(
        source=source,
        method=recipe.method.name,
        recipe=recipe.document(),
        evaluation=evaluation,
        metadata=wanted.metadata,
        labels=tuple(wanted.labels),
        priority=wanted.priority,
        max_runtime_seconds=wanted.max_runtime_seconds,
        max_pending_seconds=wanted.max_pending_seconds,
        steps=plan(recipe, evaluation),
    )


def _request_of(job: Job) -> JobRequest:
    """Return the request that a stored job was made from, checked as if it came today."""
    stored = {name: getattr(job, name) for name in JobRequest.model_fields if name != "metadata"}
    try:
        return JobRequest.model_validate({**stored, "metadata": job.job_metadata})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(
            f"This version does not take the job's request any more: {pointer(first['loc'])}: {first['msg']}. "
            "Submit a new job."
        ) from None
