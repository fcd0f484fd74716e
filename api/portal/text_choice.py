"""The choice of texts, to calibrate by and to be judged on, and of tasks: built-in ones, and datasets by names."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from api.auth import team_id
from api.portal.fields import Field, Kind
from api.portal.wording import size
from api.services import services
from core.dataset_kinds import FOR_CALIBRATION, FOR_PERPLEXITY, FOR_TASKS, DatasetKind, listed
from db import datasets
from db.datasets import CALIBRATION
from db.tables import Dataset
from engines.calibration import BUILT_IN
from engines.domains import domains

DATASETS_MAX = 500  # in one list
DOMAINS = "evaluation.domains"
TASKS = "evaluation.tasks"


def choice_of_texts() -> Callable[[Field], Field]:
    """Return ``choose`` for the datasets of the team that asks."""
    team, may_run_code = team_id(), services().settings.code_execution
    kinds = [kind for kind in (*FOR_PERPLEXITY, *FOR_TASKS) if kind != DatasetKind.CODE or may_run_code]
    own, has_more = services().database.run(
        lambda session: datasets.list_page(session, team, None, DATASETS_MAX, kinds)
    )
    return partial(choose, own=own, has_more=has_more)


def choose(field: Field, own: Sequence[Dataset], *, has_more: bool) -> Field:
    """Return a field as one in which texts are chosen, where texts are named in it; else as it is.

    Args:
        field: any field of a request.
        own: the team's datasets, newest first.
        has_more: whether the team has older ones, too.
    """
    if field.name == CALIBRATION.param:
        return _choose_text(field, [one for one in own if one.kind in FOR_CALIBRATION], has_more=has_more)
    if field.name == DOMAINS:
        return _choose_domains(field, [one for one in own if one.kind in FOR_PERPLEXITY], has_more=has_more)
    if field.name == TASKS:
        return _choose_tasks(field, [one for one in own if one.kind in FOR_TASKS], has_more=has_more)
    return replace(field, fields=tuple(choose(inner, own, has_more=has_more) for inner in field.fields))


def _choose_text(field: Field, own: Sequence[Dataset], *, has_more: bool) -> Field:
    ids = tuple(dataset.id for dataset in own)
    return replace(
        field,
        kind=Kind.CHOICE,
        help=f"The text that is looked at. {_about(own, has_more=has_more)}",
        options=(*BUILT_IN, *ids),
        names=_names(own),
        groups=(("Built in", BUILT_IN), ("Of your team", ids)) if own else (),
    )


def _choose_domains(field: Field, own: Sequence[Dataset], *, has_more: bool) -> Field:
    return replace(
        field,
        kind=Kind.CHOICES,
        help=f"On what the result and full precision are compared. {_about(own, has_more=has_more)}",
        options=(*domains(), *(dataset.id for dataset in own)),
        names=_names(own),
    )


def _choose_tasks(field: Field, own: Sequence[Dataset], *, has_more: bool) -> Field:
    what = f"What result and full precision have to solve: datasets of kind {listed(FOR_TASKS)}"
    return replace(
        field,
        kind=Kind.CHOICES,
        help=f"{what}. {_about(own, has_more=has_more)}",
        options=tuple(dataset.id for dataset in own),
        names=_names(own),
    )


def _about(own: Sequence[Dataset], *, has_more: bool) -> str:
    if has_more:
        return f"Of your team's, the newest {len(own)} are listed"
    return "The page Datasets takes more of your own" if own else "The page Datasets takes some of your own"


def _names(own: Sequence[Dataset]) -> dict[str, str]:
    """Return how each dataset is shown; those that are called the same, with their ids."""
    names = {one.id: f"{one.name or 'Without a name'}, {size(one.size_bytes)}" for one in own}
    count = Counter(names.values())
    return {dataset_id: name if count[name] == 1 else f"{name}, {dataset_id}" for dataset_id, name in names.items()}
