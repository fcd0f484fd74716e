"""How a table that is wider than the terminal is made to fit, so that a row stays a line.

Refuses to know what its columns mean: who prints it says what may be left out, and what may be cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

CUT = "…"
CUT_WIDTH_MIN = 14  # what is cut further tells nothing: `gptq:4bit-g128` is as long
GAP = 2  # between two columns


@dataclass(frozen=True)
class Fitting:
    """What a table may lose on a terminal that is too narrow for it.

    Args:
        gives_way: columns that are left out, the first of them first.
        cut_after: columns whose beginning says most, so that their end is cut.
        cut_before: columns whose end says most, such as paths.
    """

    gives_way: Sequence[str] = ()
    cut_after: Sequence[str] = ()
    cut_before: Sequence[str] = ()


@dataclass(frozen=True)
class Fitted:
    """A table that fits, and the columns that it lost; where nothing more can be lost it may still be too wide."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: Sequence[str]


def fit(columns: Sequence[str], rows: Sequence[Sequence[str]], fitting: Fitting, width: int) -> Fitted:
    """Return a table as a terminal of so many columns can show it."""
    cells = {name: [row[index] for row in rows] for index, name in enumerate(columns)}
    natural = {name: max(map(cell_len, [name, *cells[name]])) for name in columns}
    cuttable = (*fitting.cut_after, *fitting.cut_before)
    widths = {name: min(wide, CUT_WIDTH_MIN) if name in cuttable else wide for name, wide in natural.items()}
    gives_way = [name for name in fitting.gives_way if name in widths]
    while gives_way and _room_beside(widths, width) < 0:
        del widths[gives_way.pop(0)]
    while _room_beside(widths, width) > 0:
        shortened = [name for name in cuttable if name in widths and widths[name] < natural[name]]
        if not shortened:
            break
        widths[min(shortened, key=widths.__getitem__)] += 1
    shown = [
        [_cut(cell, widths[name], keeps_end=name in fitting.cut_before) for cell in cells[name]] for name in widths
    ]
    left_out = [name for name in columns if name not in widths]
    return Fitted(list(widths), list(zip(*shown, strict=True)), left_out)


def _room_beside(widths: dict[str, int], width: int) -> int:
    return width - sum(widths.values()) - GAP * (len(widths) - 1)


def _cut(text: str, width: int, *, keeps_end: bool) -> str:
    if cell_len(text) <= width:
        return text
    while cell_len(text) > width - cell_len(CUT):
        text = text[1:] if keeps_end else text[:-1]
    return f"{CUT}{text}" if keeps_end else f"{text}{CUT}"
