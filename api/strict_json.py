"""JSON as RFC 8259 has it, and only what Postgres can keep: Python's own reader also takes NaN and half a character."""

import json
import math
from typing import Any, NoReturn

from flask.json.provider import DefaultJSONProvider

from core.errors import InvalidRequest

DEPTH_MAX = 32
DIGITS_MAX = 309  # of the largest float
OUT_OF_RANGE = "a number is out of range"

Location = tuple[str | int, ...]


class UnusableText(InvalidRequest):
    """A string that is legal JSON but no text: Postgres cannot keep it.

    Args:
        location: where in the document.
    """

    def __init__(self, location: Location) -> None:
        super().__init__("A text contains a NUL character or half of a surrogate pair. Remove it.")
        self.location = location


class StrictJSONProvider(DefaultJSONProvider):
    """Flask's reader and writer of JSON, strict in what it reads; members are written in the order they are given."""

    sort_keys = False

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Return the document in ``s``.

        Raises:
            ValueError: it is no JSON, has a member twice, a number out of range, or is nested too deeply.
            UnusableText: a string in it cannot be kept.
        """
        try:
            document = json.loads(
                s,
                parse_constant=_refuse_constant,
                parse_int=_whole_number,
                object_pairs_hook=_without_doubles,
                **kwargs,
            )
        except RecursionError:
            raise ValueError(f"nested more than {DEPTH_MAX} levels deep") from None
        _check(document)
        return document


def _whole_number(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise ValueError(OUT_OF_RANGE)
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has two members of one name")
    return members


def _check(document: Any) -> None:
    """Look at every value, without recursion."""
    waiting: list[tuple[Location, Any]] = [((), document)]
    while waiting:
        location, value = waiting.pop()
        if len(location) > DEPTH_MAX:
            raise ValueError(f"nested more than {DEPTH_MAX} levels deep")
        if isinstance(value, str) and not _is_text(value):
            raise UnusableText(location)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(OUT_OF_RANGE)
        if isinstance(value, dict):
            for name, member in value.items():
                if not _is_text(name):
                    raise UnusableText(location)
                waiting.append(((*location, name), member))
        elif isinstance(value, list):
            waiting.extend(((*location, index), item) for index, item in enumerate(value))


def _is_text(value: str) -> bool:
    return "\0" not in value and (value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value))
