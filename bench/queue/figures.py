"""What was measured: figures with the bounds that they were promised to keep, and their printing.

A figure that misses its bound is marked where it is printed, and named at the end. Refuses to know what is measured.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of ``values`` that at least ``percent`` of them do not exceed (the nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True)
class Bound:
    """What a figure was promised to keep: ``at_most`` or ``at_least`` a value."""

    at_most: float | None = None
    at_least: float | None = None

    def is_kept(self, value: float) -> bool:
        """Say whether ``value`` keeps it."""
        above = self.at_most is not None and value > self.at_most
        below = self.at_least is not None and value < self.at_least
        return not (above or below or math.isnan(value))

    def __str__(self) -> str:
        parts = [
            f"{sign} {_number(limit)}"
            for sign, limit in (("≤", self.at_most), ("≥", self.at_least))
            if limit is not None
        ]
        return " and ".join(parts)


Cell = str | float | tuple[float, Bound]
"""A cell of a table: text, a figure without a bound, or a figure with one."""


@dataclass
class Report:
    """Everything that a run measures and says; printed as it comes and kept for the file of results."""

    lines: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, str] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """Print a text at once, also into a pipe, and keep it."""
        print(text, flush=True)
        self.lines.append(text)

    def progress(self, text: str) -> None:
        """Tell whoever waits what is being done; it is no part of the results."""
        print(f"… {text}", file=sys.stderr, flush=True)

    def table(self, section: str, columns: Sequence[str], rows: Mapping[str, Sequence[Cell]]) -> None:
        """Print a table and keep its figures under ``section/row/column``.

        Args:
            section: what the figures' names begin with.
            columns: a heading for each cell, with its unit.
            rows: cells by the name of the row.
        """
        for row, cells in rows.items():
            for column, cell in zip(columns, cells, strict=True):
                self._keep(f"{section}/{row}/{column}", cell)
        texts = [["", *columns], *([row, *map(_text, cells)] for row, cells in rows.items())]
        widths = [max(len(line[place]) for line in texts) for place in range(len(texts[0]))]
        for first, *rest in texts:
            aligned = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
            self.say("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
        self.say()

    def write(self, path: Path, **further: Any) -> None:
        """Print the closing line of JSON, and write all that was said into a file."""
        self.say(json.dumps({**further, "figures": self.figures, "bounds": self.bounds, "missed": self.missed}))
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in self.lines))

    def _keep(self, name: str, cell: Cell) -> None:
        if isinstance(cell, str):
            return
        value, bound = cell if isinstance(cell, tuple) else (cell, None)
        self.figures[name] = round(value, 3)
        if bound is not None:
            self.bounds[name] = str(bound)
            if not bound.is_kept(value):
                self.missed.append(name)


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float | int):
        return _number(cell)
    value, bound = cell
    return f"{_number(value)} ({bound}{'' if bound.is_kept(value) else ', MISSED'})"


def _number(value: float) -> str:
    """Return a number with about three digits that tell something."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:  # noqa: PLR2004 - a hundred has three digits
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".")
