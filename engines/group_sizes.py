"""Groups of weights of a row that share a scale."""

from collections.abc import Sequence

from core.errors import InvalidRequest

WHOLE_ROW = -1


def require_groups(what: str, length: int, group_size: int, lengths: Sequence[int], otherwise: str) -> None:
    """Refuse groups that do not divide a row; groups that are no number of weights always do.

    Args:
        what: the row, as the message names it.
        length: its weights.
        group_size: weights of a group.
        lengths: those that a group size must divide.
        otherwise: what can be chosen in place of a group size.

    Raises:
        InvalidRequest: naming the field and the row.
    """
    if group_size > 0 and length % group_size:
        raise InvalidRequest(
            f"group_size {group_size} does not divide {what}. Choose one that divides "
            f"{', '.join(map(str, lengths))}, or {otherwise}.",
            param="recipe.group_size",
        )
