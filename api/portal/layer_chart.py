"""What was measured of each layer as a line for each kind of module: numbers in, places on a drawing out.

Drawn by the server, so that it needs no script, and can be read in a browser without one. The scale is logarithmic:
a layer that went wrong loses more by orders of magnitude. Refuses to know: HTML, and where the numbers come from.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 72, 704, 16, 276
LINES_MAX = 8
LAYER_TICKS_MAX = 9
DECADES_WITH_HALVES_MAX = 2

_LAYER = re.compile(r"^(?:.*\.)?(?:layers|blocks|blk|h)\.\d+\.")
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


@dataclass(frozen=True)
class Point:
    """One measured value and its place."""

    layer: int
    value: float
    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """One kind of module through the layers."""

    kind: str
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        """The points as SVG's ``polyline`` takes them."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    text: str
    at: float


@dataclass(frozen=True)
class Chart:
    """A drawing, and the numbers it is made of.

    Attributes:
        lines: at most ``LINES_MAX``, those with the largest values.
        left_out: kinds of module that have no line.
        layers: the layers, in order.
        table: value by layer and kind; the largest where a layer has several modules of a kind.
        largest: the largest value of all, with its layer and kind.
    """

    lines: tuple[Line, ...]
    left_out: int
    layer_ticks: tuple[Tick, ...]
    value_ticks: tuple[Tick, ...]
    layers: tuple[int, ...]
    table: Mapping[tuple[int, str], float]
    largest: tuple[int, str, float]


def draw(values: Iterable[tuple[int, str, float]]) -> Chart | None:
    """Return the drawing of one value of modules, each with its layer and name; None where there are none."""
    table: dict[tuple[int, str], float] = {}
    for layer, module, value in values:
        place = (layer, kind_of(module))
        table[place] = max(value, table.get(place, value))
    if not table:
        return None
    highest: dict[str, float] = defaultdict(lambda: -math.inf)
    for (_, kind), value in table.items():
        highest[kind] = max(value, highest[kind])
    kinds = sorted(highest, key=lambda kind: -highest[kind])
    layers = sorted({layer for layer, _ in table})
    place_layer = _Scale(layers[0], max(layers[-1], layers[0] + 1), LEFT, RIGHT)
    positive = [value for value in table.values() if value > 0] or [1.0]
    place_value = _decades(min(positive), max(positive))
    lines = [
        Line(
            kind,
            tuple(
                Point(layer, table[layer, kind], place_layer(layer), place_value(math.log10(table[layer, kind])))
                for layer in layers
                if table.get((layer, kind), 0) > 0  # nothing has no place on this scale
            ),
        )
        for kind in kinds[:LINES_MAX]
    ]
    (layer, kind), value = max(table.items(), key=lambda item: item[1])
    return Chart(
        lines=tuple(lines),
        left_out=max(0, len(kinds) - LINES_MAX),
        layer_ticks=_layer_ticks(layers, place_layer),
        value_ticks=_value_ticks(place_value),
        layers=tuple(layers),
        table=table,
        largest=(layer, kind, value),
    )


def kind_of(module: str) -> str:
    """Return a module's name within its layer, with a star for a number: all experts of a layer are one kind."""
    return _NUMBER.sub("*", _LAYER.sub("", module))


@dataclass(frozen=True)
class _Scale:
    """A straight line from values to places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _decades(low: float, high: float) -> _Scale:
    """Return the scale of the logarithms, which begins and ends at powers of ten."""
    first = math.floor(math.log10(low))
    return _Scale(first, max(math.ceil(math.log10(high)), first + 1), BOTTOM, TOP)


def _layer_ticks(layers: list[int], place: _Scale) -> tuple[Tick, ...]:
    between = max(1, math.ceil((layers[-1] - layers[0]) / (LAYER_TICKS_MAX - 1)))
    return tuple(Tick(str(layer), place(layer)) for layer in range(layers[0], layers[-1] + 1, between))


def _value_ticks(place: _Scale) -> tuple[Tick, ...]:
    decades = range(round(place.low), round(place.high) + 1)
    steps = (1, 2, 5) if len(decades) - 1 <= DECADES_WITH_HALVES_MAX else (1,)
    between = max(1, math.ceil((len(decades) - 1) / 6))
    values = [step * 10.0**decade for decade in decades[::between] for step in steps]
    shown = [value for value in values if math.log10(value) <= place.high]
    return tuple(Tick(f"{value:g}", place(math.log10(value))) for value in shown)
