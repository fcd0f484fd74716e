"""The rows that have been measured, kept in one Markdown file: a table for each section, and all of them as JSON."""

import json
from collections.abc import Mapping
from itertools import starmap
from pathlib import Path
from typing import Any

BEGIN, END = "```json\n", "\n```\n"
HEADER = "# Measured\n\nPrinted by `python -m {}`. A row is written as soon as it is measured.\n"

Row = dict[str, Any]


class Results:
    """Rows by section and name.

    Args:
        path: the file; what is in it already of this machine is not measured again.
        machine: what the new rows are measured on.
        module: what measures them.
    """

    def __init__(self, path: Path, machine: str = "", module: str = "bench.gpu") -> None:
        self._path = path
        self._module = module
        self._machine = machine
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        _, found, rest = text.partition(BEGIN)
        self._rows: list[Row] = json.loads(rest.partition(END)[0]) if found else []

    @property
    def rows(self) -> list[Row]:
        """All rows, of any machine, in the order in which they were measured."""
        return list(self._rows)

    def has(self, section: str, name: str) -> bool:
        """Return whether a row has been measured on this machine."""
        wanted = (section, name, self._machine)
        return any((row["section"], row["name"], row["machine"]) == wanted for row in self._rows)

    def add(self, section: str, name: str, measured: Mapping[str, Any]) -> None:
        """Write a row down, and print it."""
        row = {"section": section, "name": name, **measured, "machine": self._machine}
        self._rows.append(row)
        self._path.write_text(self.page(), encoding="utf-8")
        print(json.dumps(row), flush=True)

    def page(self) -> str:
        """Return the whole file."""
        tables: dict[tuple[str, str], list[Row]] = {}
        for row in self._rows:
            tables.setdefault((row["section"], row["machine"]), []).append(row)
        rows = ",\n".join(json.dumps(row) for row in self._rows)
        return "\n".join(
            [HEADER.format(self._module), *starmap(_table, tables.items()), "## As JSON\n", f"{BEGIN}[\n{rows}\n]{END}"]
        )


def _table(of: tuple[str, str], rows: list[Row]) -> str:
    section, machine = of
    names = list(dict.fromkeys(name for row in rows for name in row if name not in ("section", "machine")))
    lines = [f"## {section}\n", f"On {machine}.\n", _line(names), _line(["---"] * len(names))]
    return "\n".join([*lines, *(_line([_cell(row.get(name)) for name in names]) for row in rows)]) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
