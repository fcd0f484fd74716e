"""What a job would come to: the answer of ``POST /v1/plan``, and of the portal's form when it is asked to forecast.

The answer's objects, and what is put into them.
"""

import datetime as dt
from typing import Literal

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.considering import Considered, consider
from api.presenting import error_object, model_sizes
from api.requests import JobRequest
from api.responses import JobError, ModelSizes
from core.ids import TeamId
from pipeline.reuse import Reuse, expected_reuse


class PlannedStep(BaseModel):
    """One stage that a job would have, and what it will need; forecasts are null where the source cannot be seen."""

    kind: str
    pool: str
    needs: list[str] = Field(description="The stages that come before")
    memory_bytes: int | None = Field(description="Of the worker's main memory")
    vram_bytes: int | None = Field(description="Of a GPU; on a worker without one, of its main memory as well")
    scratch_bytes: int | None = Field(description="Of the worker's scratch disk")
    seconds: float | None = Field(
        description="About how long it takes on an NVIDIA H100 or, in the pool `cpu`, on two cores; null where that is "
        "not known"
    )
    reused: bool = Field(description="Whether it was done before, if the source has not changed since `fetched_at`")
    refused: str | None = Field(description="Why no worker could run it")


class Plan(BaseModel):
    """What a job would come to; nothing has been written down."""

    object: Literal["plan"] = "plan"
    source: str
    recipe: str = Field(description="In short form")
    model: ModelSizes | None = Field(description="Null where the source cannot be seen from here")
    steps: list[PlannedStep]
    result_bytes: int | None = Field(description="About how large the result will be")
    fetched_at: dt.datetime | None = Field(description="When your team fetched this source last")
    warnings: list[str]
    refusals: list[JobError] = Field(description="Why the job would not be taken; empty if it would")


def plan_request(session: Session, team_id: TeamId, wanted: JobRequest) -> Plan:
    """Return what a request would come to; nothing is written down.

    Raises:
        RequestError: there is nothing to plan; see ``consider``.
    """
    considered = consider(session, team_id, wanted)
    reuse = expected_reuse(session, team_id, considered.source, considered.steps, considered.model)
    return _plan_object(considered, reuse)


def _plan_object(considered: Considered, reuse: Reuse) -> Plan:
    """Return what a request would come to."""
    recipe, model = considered.recipe, considered.model
    needs = {step.kind: step.needs for step in considered.steps}
    return Plan(
        source=considered.source,
        recipe=recipe.short,
        model=None if model is None else model_sizes(model),
        steps=[
            PlannedStep(
                kind=step.kind,
                pool=step.pool,
                needs=list(needs[step.kind]),
                memory_bytes=None if model is None else step.need.memory_bytes,
                vram_bytes=None if model is None else step.need.vram_bytes,
                scratch_bytes=None if model is None else step.need.scratch_bytes,
                seconds=step.seconds,
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
