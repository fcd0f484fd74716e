"""The choice of a calibration text: the built-in ones, and the team's own by their names."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from api.portal.fields import Field, Kind
from api.portal.wording import size
from db.tables import Text
from engines.calibration import BUILT_IN

TEXTS_MAX = 500  # in one list


def choose_text(field: Field, own: Sequence[Text], *, has_more: bool) -> Field:
    """Return the field in which a calibration text is chosen.

    Args:
        field: the field for its name or id.
        own: the team's texts, newest first.
        has_more: whether the team has older ones, too.
    """
    ids = tuple(text.id for text in own)
    return replace(
        field,
        kind=Kind.CHOICE,
        help=f"The text that is looked at. {_about(own, has_more=has_more)}",
        options=(*BUILT_IN, *ids),
        names=_names(own),
        groups=(("Built in", BUILT_IN), ("Of your team", ids)) if own else (),
    )


def _about(own: Sequence[Text], *, has_more: bool) -> str:
    if has_more:
        return f"Of your team's, the newest {len(own)} are listed"
    return "The page Texts takes more of your own" if own else "The page Texts takes some of your own"


def _names(own: Sequence[Text]) -> dict[str, str]:
    """Return how each text is shown; those that are called the same, with their ids."""
    names = {text.id: f"{text.name or 'Without a name'}, {size(text.size_bytes)}" for text in own}
    count = Counter(names.values())
    return {text_id: name if count[name] == 1 else f"{name}, {text_id}" for text_id, name in names.items()}
