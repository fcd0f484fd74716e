"""Where a command's words go: text or JSON on stdout, complaints on stderr."""

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewbits_client.cli.fitting import Fitting, fit
from fewbits_client.cli.wording import printable
from fewbits_client.errors import FewbitsError, Problem

T = TypeVar("T")


@dataclass(frozen=True)
class Output:
    """What a command says, and whether it says it in JSON.

    Args:
        as_json: stdout gets JSON and nothing else.
    """

    as_json: bool

    def line(self, text: str) -> None:
        """Say one line to a person; with JSON there is none to say it to."""
        if not self.as_json:
            click.echo(printable(text))

    def document(self, value: Any) -> None:
        """Write one JSON value on one line, flushed."""
        click.echo(json.dumps(value))

    def page(self, data: Sequence[Any], *, has_more: bool = False) -> None:
        """Write a list as the API's pages are."""
        self.document({"object": "list", "data": data, "has_more": has_more})

    def newest(self, items: Iterable[T], limit: int, show: Callable[[list[T]], object]) -> None:
        """Write the first of a list, and say if there are more.

        Args:
            items: the list; no more of it is read than has to be.
            limit: how many.
            show: writes them for a person, unless there are none.
        """
        found = list(itertools.islice(items, limit + 1))
        shown, has_more = found[:limit], len(found) > limit
        if self.as_json:
            self.page(shown, has_more=has_more)
        elif shown:
            show(shown)
        if has_more:
            self.complain(f"there are more than {limit}; --limit shows them")

    def complain(self, text: str) -> None:
        """Say on stderr what went wrong or what to do."""
        click.echo(printable(text), err=True)

    def failure(self, error: FewbitsError | OSError) -> dict[str, Any]:
        """Return an error as the object that stands for it in JSON."""
        document: dict[str, Any] = {"object": "error", "kind": type(error).__name__, "message": str(error)}
        if isinstance(error, Problem):
            document["problem"] = error.document
        return document


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], fitting: Fitting | None = None) -> Sequence[str]:
    """Print a table: drawn on a terminal, aligned plain text in a pipe, where nothing is cut to a width.

    Args:
        columns: their heads.
        rows: a cell for each column.
        fitting: how a row is kept on one line of a narrow terminal; None folds its cells instead.

    Returns:
        The columns that the terminal has no room for.
    """
    cells = [[" ".join(printable(cell).split()) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max(len(row[index]) for row in [list(columns), *cells]) for index in range(len(columns))]
        for row in [list(columns), *cells]:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return ()
    console = Console(file=sys.stdout)
    fitted = fit(columns, cells, fitting or Fitting(), console.width)
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in fitted.columns:
        drawn.add_column(column, overflow="fold")
    for shown in fitted.rows:
        # Text, not str: a recipe or a path with brackets is not rich's markup.
        drawn.add_row(*(Text(cell) for cell in shown))
    console.print(drawn)
    return fitted.left_out
