"""What a plan will need, step by step, before any of it has run, and whether some worker could ever run it.

Refuses to know: who asked, and what becomes of a job that nobody could run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from db import workers
from db.jobs import PlannedStep
from db.room import GPU, Need, Room, lacks_gpu
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from pipeline.kinds import KINDS

BYTES_MAX = 2**63 - 1  # the largest number that Postgres keeps; no machine has as much
NOTHING = Need(0, 0, 0)


@dataclass(frozen=True)
class ForeseenStep:
    """A step of a plan.

    Attributes:
        kind: what it does.
        pool: which workers do it.
        need: what it will need; nothing where that cannot be told yet.
        seconds: about how long it takes, on what ``Forecast.seconds`` says; None where that is not known.
    """

    kind: str
    pool: str
    need: Need
    seconds: float | None


def foresee(steps: Sequence[PlannedStep], model: ModelFacts | None) -> list[ForeseenStep]:
    """Return each step of a plan with its forecast.

    Args:
        steps: the plan; a step comes after those that it needs.
        model: the source; None where it cannot be seen, so that nothing can be told.
    """
    foreseen = []
    facts: dict[str, Mapping[str, Any]] = {}
    for step in steps:
        need, seconds = NOTHING, None
        if model is not None:
            kind = KINDS[step.kind]
            forecast = kind.forecast(step.params, facts)
            need, seconds = need_of(forecast), forecast.seconds
            facts[step.kind] = kind.expect(step.params, model)
        foreseen.append(ForeseenStep(step.kind, step.pool, need, seconds))
    return foreseen


def beyond_all_workers(session: Session, steps: Sequence[ForeseenStep]) -> dict[str, str]:
    """Return the kinds of steps that no worker could run, of those of the last week, each with the reason."""
    rooms = workers.registered_rooms(session)
    said = ((step.kind, _why_no_worker(step, rooms.get(step.pool, ()))) for step in steps)
    return {kind: why for kind, why in said if why is not None}


def _why_no_worker(step: ForeseenStep, rooms: Sequence[Room]) -> str | None:
    if any(room.fits(step.need) for room in rooms):
        return None
    kind = step.kind.capitalize()
    if step.need == NOTHING:
        return f"{kind} needs a {step.pool} worker, and none has been there for a week."
    if lacks_gpu(step.need, rooms):
        return f"{kind} needs {GPU}, and no {step.pool} worker of the last week has one."
    return f"{kind} needs {step.need}, which no {step.pool} worker of the last week has."


def need_of(forecast: Forecast) -> Need:
    """Return a forecast as it is stored."""
    return Need(
        memory_bytes=min(forecast.memory_bytes, BYTES_MAX),
        vram_bytes=min(forecast.vram_bytes, BYTES_MAX),
        scratch_bytes=min(forecast.scratch_bytes, BYTES_MAX),
        needs_gpu=forecast.needs_gpu,
    )
