r"""Patterns that choose tensors by their names: regular expressions that cannot run away and mean the same everywhere.

llama.cpp makes small letters of a pattern (``parse_tensor_type`` in ``tools/quantize/quantize.cpp``) and searches names
with C++'s ECMAScript expressions; what it will find is found here with Python's. What both read alike is enough: small
letters, digits, ``_ - .``, ``\.``, ``\d``, classes of these, groups, ``|``, ``^``, ``$``, and ``* + ?`` behind one
character. A range in a class goes from letter to letter or from digit to digit, and a dash means nothing else there.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic_core import PydanticCustomError

from core.errors import InvalidRequest

LENGTH_MAX = 128
PATTERNS_MAX = 64
REPEATS_MAX = 3  # each costs another factor of a name's length

_CAPITAL = re.compile("[A-Z]")
_ALLOWED = re.compile(r"(?:[a-z0-9_.|()^$*+?-]|\\[.d]|\[(?:[a-z]-[a-z]|[0-9]-[0-9]|[a-z0-9_])+\])+")
# A repeated group may take exponential time; "(?" and "a*+" mean other things in Python.
_REFUSED = re.compile(r"\)[*+?]|\(\?|[*+?|(^][*+?]")

Value = TypeVar("Value")


def require_patterns(patterns: dict[str, Value]) -> dict[str, Value]:
    """Return values by pattern, for a parameter's validation.

    Raises:
        PydanticCustomError: a pattern is too long, or none that both kinds of expression read alike.
    """
    for pattern in patterns:
        reason = _reason_against(pattern)
        if reason:
            shown = {"pattern": repr(pattern[:LENGTH_MAX]), "reason": reason}
            raise PydanticCustomError("pattern", "The pattern {pattern} {reason}", shown)
    return patterns


def _reason_against(pattern: str) -> str:
    if not 0 < len(pattern) <= LENGTH_MAX:
        return f"must have 1 to {LENGTH_MAX} characters"
    if _CAPITAL.search(pattern):
        return "must have small letters alone: llama.cpp makes small ones of all, and its names have no others"
    if not _ALLOWED.fullmatch(pattern) or _REFUSED.search(pattern) or len(re.findall("[*+]", pattern)) > REPEATS_MAX:
        return (
            r"may have small letters, digits, _ - . \. \d ( | ) ^ $, classes such as [a-f] and [0-9_], and * + ? "
            f"behind a single one, * and + {REPEATS_MAX} times at most"
        )
    try:
        re.compile(pattern)
    except re.error as error:
        return f"is no regular expression: {error}"
    return ""


def choose(patterns: Mapping[str, Value], names: Iterable[str], *, param: str) -> dict[str, Value]:
    """Return the value that patterns give each name; names that none is found in are left out.

    The order of the patterns means nothing: it would not outlive the database.

    Args:
        patterns: values by pattern, each looked for anywhere in a name.
        names: of all tensors that can be chosen.
        param: the field of the request that the patterns stand in.

    Raises:
        InvalidRequest: a pattern is found in no name, or two that are found in one disagree.
    """
    chosen: dict[str, tuple[str, Value]] = {}
    known = list(names)
    for pattern, value in patterns.items():
        found = [name for name in known if re.search(pattern, name)]
        if not found:
            raise InvalidRequest(
                f"The pattern {pattern!r} is found in no tensor that is quantized. There are {_some(known)}.",
                param=param,
            )
        for name in found:
            other, given = chosen.setdefault(name, (pattern, value))
            if given != value:
                raise InvalidRequest(
                    f"The patterns {other!r} and {pattern!r} are both found in {name}, and ask for {given} and "
                    f"{value}. Write them so that one is.",
                    param=param,
                )
    return {name: value for name, (_, value) in chosen.items()}


def _some(names: list[str]) -> str:
    """Return the different kinds of names, without the numbers of layers."""
    kinds = dict.fromkeys(re.sub(r"\.\d+\.", ".N.", name) for name in names)
    return ", ".join(list(kinds)[:12])
