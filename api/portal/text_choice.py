"""The choice of a calibration text: the built-in ones, and the team's datasets by their names."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from api.portal.fields import Field, Kind
from api.portal.wording import size
from db.tables import Dataset
from engines.calibration import BUILT_IN

DATASETS_MAX = 500  # in one list


def choose_text(field: Field, own: Sequence[Dataset], *, has_more: bool) -> Field:
    """Return the field in which a calibration text is chosen.

    Args:
        field: the field for its name or id.
        own: the team's datasets, newest first.
        has_more: whether the team has older ones, too.
    """
    ids = tuple(dataset.id for dataset in own)
    return replace(
        field,
        kind=Kind.CHOICE,
        help=f"The text that is looked at. {_about(own, has_more=has_more)}",
        options=(*BUILT_IN, *ids),
        names=_names(own),
        groups=(("Built in", BUILT_IN), ("Of your team", ids)) if own else (),
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
