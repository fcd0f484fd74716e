"""From what a client asked for to a job, in the caller's transaction: the one way, for new requests and for retries.

Refuses to know: who asks, and how the answer is sent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.problems import pointer
from api.quotas import default_quotas
from api.requests import JobRequest
from api.services import services
from core.errors import InvalidRequest, NoCapacity
from core.ids import JobId, TeamId
from db import jobs, quotas, texts
from db.jobs import NewJob, PlannedStep
from db.shown import ShownJob
from engines import families
from engines.calibration import is_own
from engines.methods.base import CalibratedParams
from engines.recipe import Recipe, parse_recipe
from engines.source import ModelFacts
from pipeline.destinations import check_destination
from pipeline.foresight import beyond_all_workers, foresee
from pipeline.plan import plan
from pipeline.precheck import check_model
from pipeline.sources import check_source

WHAT_TO_DO = (
    "Ask your operator for such a worker, choose a smaller model or, where a recipe has them, fewer samples; "
    "or set wait_for_capacity, and the job waits for one."
)


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
        Conflict: it is not over yet.
        RequestError: this service does not take the request any more.
        NoCapacity: no worker could ever run it.
        QuotaExceeded: the team has as many queued jobs as it may have.
    """
    return jobs.retry(session, team_id, job_id, lambda job: _new_job(session, team_id, _request_of(job)))


def _new_job(session: Session, team_id: TeamId, wanted: JobRequest) -> NewJob:
    settings = services().settings
    recipe = parse_recipe(wanted.recipe)
    evaluation = wanted.evaluation.model_dump()
    source = check_source(wanted.source, settings.source_roots)
    publish_to = wanted.publish_to and check_destination(wanted.publish_to, settings.publish_roots)
    _check_attempts(wanted.max_attempts, settings.attempts_limit)
    model = check_model(recipe, source, settings.source_roots)
    steps = plan(recipe, evaluation, publish_to, _own_text(session, team_id, recipe))
    warnings = recipe.warnings + (families.warnings(recipe.tried_as, model) if model else ())
    warnings += _check_capacity(session, steps, model, wait=wanted.wait_for_capacity)
    quotas.require_place(session, team_id, default_quotas(settings))  # last, for it may lock until the transaction ends
    return NewJob(
        source=source,
        method=recipe.method.name,
        recipe=recipe.document(),
        evaluation=evaluation,
        metadata=wanted.metadata,
        labels=tuple(wanted.labels),
        priority=wanted.priority,
        max_runtime_seconds=wanted.max_runtime_seconds or settings.max_runtime_seconds,
        max_pending_seconds=wanted.max_pending_seconds or settings.max_pending_seconds,
        max_attempts=wanted.max_attempts,
        wait_for_capacity=wanted.wait_for_capacity,
        publish_to=publish_to,
        steps=steps,
        warnings=warnings,
    )


def _own_text(session: Session, team_id: TeamId, recipe: Recipe) -> Mapping[str, Any] | None:
    """Return what the plan has to know of the team's own text, where the recipe names one.

    Raises:
        InvalidRequest: the team has none of that id.
    """
    params = recipe.params
    if not isinstance(params, CalibratedParams) or not is_own(params.calibration_text):
        return None
    text = texts.require_for_job(session, team_id, params.calibration_text)
    return {"text_sha256": text.sha256, "text_format": text.format, "text_bytes": text.size_bytes}


def _check_attempts(wanted: int | None, limit: int) -> None:
    if wanted is not None and wanted > limit:
        raise InvalidRequest(
            f"A job may ask for {limit} attempts at most. Your operator sets this limit, by FEWBITS_ATTEMPTS_LIMIT.",
            param="max_attempts",
        )


def _check_capacity(
    session: Session, steps: Sequence[PlannedStep], model: ModelFacts | None, *, wait: bool
) -> tuple[str, ...]:
    """Return what is to be told of a job that waits for a worker that could run it.

    Raises:
        NoCapacity: none could, and the job does not wait for one.
    """
    why = beyond_all_workers(session, foresee(steps, model))
    if why is None:
        return ()
    if not wait:
        raise NoCapacity(f"{why} {WHAT_TO_DO}", param="recipe")
    return (f"{why} The job waits for one.",)


def _request_of(job: ShownJob) -> JobRequest:
    """Return the request that a stored job was made from, checked as if it came today."""
    try:
        return JobRequest.model_validate({name: getattr(job, name) for name in JobRequest.model_fields})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(
            f"This version does not take the job's request any more: {pointer(first['loc'])}: {first['msg']}. "
            "Submit a new job."
        ) from None
