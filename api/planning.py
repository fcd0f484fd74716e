"""What a job would come to: the answer of ``POST /v1/plan``, and of the portal's form when it is asked to forecast."""

from sqlalchemy.orm import Session

from api import responses
from api.considering import Considered, consider
from api.presenting import error_object, model_sizes
from api.requests import JobRequest
from core.ids import TeamId
from pipeline.reuse import Reuse, expected_reuse


def plan_request(session: Session, team_id: TeamId, wanted: JobRequest) -> responses.Plan:
    """Return what a request would come to; nothing is written down.

    Raises:
        RequestError: there is nothing to plan; see ``consider``.
    """
    considered = consider(session, team_id, wanted)
    reuse = expected_reuse(session, team_id, considered.source, considered.steps, considered.model)
    return _plan_object(considered, reuse)


def _plan_object(considered: Considered, reuse: Reuse) -> responses.Plan:
    """Return what a request would come to."""
    recipe, model = considered.recipe, considered.model
    needs = {step.kind: step.needs for step in considered.steps}
    return responses.Plan(
        source=considered.source,
        recipe=recipe.short,
        model=None if model is None else model_sizes(model),
        steps=[
            responses.PlannedStep(
                kind=step.kind,
                pool=step.pool,
                needs=list(needs[step.kind]),
                memory_bytes=None if model is None else step.need.memory_bytes,
                vram_bytes=None if model is None else step.need.vram_bytes,
                scratch_bytes=None if model is None else step.need.scratch_bytes,
                reused=step.kind in reuse.kinds,
                refused=considered.beyond.get(step.kind),
            )
            for step in considered.foreseen
        ],
        result_bytes=None if model is None else recipe.method.result_bytes(model, recipe.params),
        fetched_at=reuse.fetched_at,
        warnings=list(considered.warnings),
        refusals=[error for refusal in considered.refusals if (error := error_object(refusal.document()))],
    )
