"""What a plan will need, step by step, before any of it has run, and whether some worker could ever run it.

Refuses to know: who asked, and what becomes of a job that nobody could run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from db import workers
from db.jobs import PlannedStep
from db.room import Need
from engines.methods.base import Forecast
from engines.source import ModelFacts
from pipeline.kinds import KINDS

BYTES_MAX = 2**63 - 1  # the largest number that Postgres keeps; no machine has as much
NOTHING = Need(0, 0, 0)


@dataclass(frozen=True)
class ForeseenStep:
    """A step of a plan, and what it will need; that is nothing where it cannot be told yet."""

    kind: str
    pool: str
    need: Need


def foresee(steps: Sequence[PlannedStep], model: ModelFacts | None) -> list[ForeseenStep]:
    """Return each step of a plan with its forecast.

    Args:
        steps: the plan; a step comes after those that it needs.
        model: the source; None where it cannot be seen, so that nothing can be told.
    """
    foreseen = []
    facts: dict[str, Mapping[str, Any]] = {}
    for step in steps:
        need = NOTHING
        if model is not None:
            kind = KINDS[step.kind]
            need = need_of(kind.forecast(step.params, facts))
            facts[step.kind] = kind.expect(step.params, model)
        foreseen.append(ForeseenStep(step.kind, step.pool, need))
    return foreseen


def beyond_all_workers(session: Session, steps: Sequence[ForeseenStep]) -> ForeseenStep | None:
    """Return the first step that no worker of its pool could run, of those that were there within a week, or None."""
    rooms = workers.registered_rooms(session)
    return next((step for step in steps if not any(room.fits(step.need) for room in rooms.get(step.pool, ()))), None)


def need_of(forecast: Forecast) -> Need:
    """Return a forecast as it is stored."""
    return Need(
        memory_bytes=min(forecast.memory_bytes, BYTES_MAX),
        vram_bytes=min(forecast.vram_bytes, BYTES_MAX),
        scratch_bytes=min(forecast.scratch_bytes, BYTES_MAX),
    )
