"""Text that comes from elsewhere, as Markdown that shows it and does nothing else (https://spec.commonmark.org)."""

import re
from collections.abc import Sequence

_MEANING = re.compile(r"[\\`*_{}\[\]<>#|~$&!^]")
_TICKS = re.compile(r"`+")


def plain(text: str) -> str:
    """Return text that stands in a line, or in a cell, as it is."""
    return _MEANING.sub(lambda found: "\\" + found[0], _one_line(text).replace("://", ": //"))


def code(text: str) -> str:
    """Return text as code within a line; not for cells, where a bar would end it."""
    shown = _one_line(text)
    ticks = "`" * (_longest_run(shown) + 1)
    room = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{room}{shown}{room}{ticks}"


def block(text: str, language: str) -> str:
    """Return lines of code."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _one_line(text: str) -> str:
    """Return text without line ends, and without characters that cannot be seen, such as those that turn its order."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _longest_run(text: str) -> int:
    return max((len(run) for run in _TICKS.findall(text)), default=0)
