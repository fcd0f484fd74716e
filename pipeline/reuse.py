"""Which steps of a plan would find their work done: their content keys, as far as they can be told beforehand.

The keys of all that follows a fetch depend on what it fetches, and a local source is read anew for each job. They are
told as they will be if the source is still what it was when the team fetched it last.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core.errors import FewbitsError
from core.ids import TeamId
from core.steps import Input, UnboundStep
from db import bind
from db.jobs import PlannedStep
from engines.model_facts import ModelFacts
from pipeline.binding import describe
from pipeline.kinds import KINDS
from pipeline.step_kind import model_facts

FETCH = "fetch"


@dataclass(frozen=True)
class Reuse:
    """What would not be done again.

    Attributes:
        kinds: of the steps, of those that read files; empty where the team has not fetched the source yet, or it has
            other facts by now.
        fetched_at: when it was fetched last; what is said of ``kinds`` holds if it has not changed since.
    """

    kinds: frozenset[str] = frozenset()
    fetched_at: dt.datetime | None = None


def expected_reuse(
    session: Session, team_id: TeamId, source: str, steps: Sequence[PlannedStep], model: ModelFacts | None
) -> Reuse:
    """Return which steps of a plan would be done at once.

    Args:
        session: the caller's transaction.
        team_id: who asks; what other teams have made is not looked at.
        source: as the job would name it.
        steps: the plan; a step comes after those that it needs.
        model: what the source is now; None where it cannot be seen.
    """
    fetched = bind.last_fetched(session, team_id, source)
    if fetched is None or (model is not None and model_facts({FETCH: fetched.output.facts}) != model):
        return Reuse()
    made = {FETCH: fetched.output}
    kinds = set()
    for step in steps:
        inputs = {kind: made[kind] for kind in step.needs if kind in made}
        if step.kind == FETCH or not _key_can_be_told(step, steps, made):
            continue
        found = bind.done_before(session, _key(team_id, source, step, inputs))
        if found is not None:
            kinds.add(step.kind)
            if found.output is not None:
                made[step.kind] = found.output
    return Reuse(frozenset(kinds), fetched.at)


def _key_can_be_told(step: PlannedStep, steps: Sequence[PlannedStep], made: Mapping[str, Input]) -> bool:
    """Return whether a step's work goes by files alone, and all of these are there."""
    leave_files = {other.kind for other in steps if KINDS[other.kind].output(other.params) is not None}
    return KINDS[step.kind].reads == "files" and leave_files.intersection(step.needs) <= made.keys()


def _key(team_id: TeamId, source: str, step: PlannedStep, inputs: dict[str, Input]) -> str:
    """Return the key that the step will have; one that nothing has where its work cannot be described."""
    unbound = UnboundStep("", "", team_id, step.kind, step.pool, source, step.params, inputs)
    try:
        return describe(unbound).key
    except FewbitsError:
        return ""
