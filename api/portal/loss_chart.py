"""Size against perplexity ratio as points with their intervals: numbers in, places on a drawing out.

Drawn by the server, as the chart by layer is. Losses are placed by their logarithm: of a sweep from 8 to 2 bits they
differ by orders of magnitude. Refuses to know: HTML, and what a sweep is.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api.portal.layer_chart import Tick

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 72, 704, 16, 304
TICKS_MAX = 6
MARGIN = 0.06  # of the range, between the outermost points and the frame
SIZE_MARGIN_MIN, RATIO_MARGIN_MIN = (
    0.02,
    0.002,
)  # of the largest size, and of the ratio: what differs by less looks alike
RATIO_MIN, RATIO_MAX = 1e-12, 1e12  # what is beyond has no place
LABEL_WIDTH, LABEL_HEIGHT = 24.0, 16.0
UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


@dataclass(frozen=True)
class Result:
    """What is drawn of one recipe.

    Attributes:
        number: by which it is found in the table.
        name: of the recipe.
        size_bytes: of its result.
        ratio: its perplexity by full precision's.
        low: the lower end of the ratio's interval; None where there is none.
        high: the upper one.
        is_best: whether no other beats it in everything.
        is_chosen: whether it is recommended.
    """

    number: int
    name: str
    size_bytes: int
    ratio: float
    low: float | None
    high: float | None
    is_best: bool
    is_chosen: bool


@dataclass(frozen=True)
class Point:
    """A result and its place; the ends of its interval are at ``ratio``'s place where it has none."""

    result: Result
    x: float
    y: float
    y_low: float
    y_high: float
    label_x: float
    label_y: float


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Attributes:
        points: from the smallest result to the largest.
        size_ticks: on the horizontal axis.
        ratio_ticks: on the vertical one.
        unit: of the sizes.
    """

    points: tuple[Point, ...]
    size_ticks: tuple[Tick, ...]
    ratio_ticks: tuple[Tick, ...]
    unit: str


def draw(results: Iterable[Result]) -> Chart | None:
    """Return the drawing of results; None where there is none that has a place on it."""
    shown = sorted(
        (one for one in results if RATIO_MIN < one.ratio < RATIO_MAX), key=lambda one: (one.size_bytes, one.number)
    )
    if not shown:
        return None
    ends = [end for one in shown for end in _ends(one)]
    sizes = [float(one.size_bytes) for one in shown]
    place_size = _scale(min(sizes), max(sizes), max(sizes) * SIZE_MARGIN_MIN or 1.0, (LEFT, RIGHT))
    place_ratio = _scale(math.log(min(ends)), math.log(max(ends)), RATIO_MARGIN_MIN, (BOTTOM, TOP))
    factor, unit = next((factor, unit) for factor, unit in UNITS if max(sizes) >= factor or factor == 1)
    return Chart(
        points=_with_labels(shown, place_size, place_ratio),
        size_ticks=tuple(
            Tick(f"{value:g}", place_size(value * factor))
            for value in _round_values(place_size.low / factor, place_size.high / factor)
        ),
        ratio_ticks=tuple(
            Tick(f"{value:g}", place_ratio(math.log(value)))
            for value in _ratios(math.exp(place_ratio.low), math.exp(place_ratio.high))
        ),
        unit=unit,
    )


@dataclass(frozen=True)
class _Scale:
    """A straight line from values to places."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _scale(low: float, high: float, margin_min: float, frame: tuple[float, float]) -> _Scale:
    """Return a scale on which there is some room beyond both ends, also where they are one."""
    margin = max((high - low) * MARGIN, margin_min)
    return _Scale(low - margin, high + margin, *frame)


def _ends(result: Result) -> tuple[float, float, float]:
    low = result.ratio if result.low is None else max(result.low, RATIO_MIN)
    high = result.ratio if result.high is None else min(result.high, RATIO_MAX)
    return low, result.ratio, high


def _round_values(low: float, high: float) -> list[float]:
    """Return a few round values between two, evenly apart."""
    least = (high - low) / TICKS_MAX
    power = 10.0 ** math.floor(math.log10(least))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{count * step:.12g}") for count in range(first, last + 1)]


def _ratios(low: float, high: float) -> list[float]:
    """Return round values: evenly apart within a small range, else 1, 2 and 5 of decades, or decades alone."""
    if high / low < 2:  # noqa: PLR2004 - where evenly apart looks so by logarithms, too
        return _round_values(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    between = max(1, math.ceil(len(decades) / TICKS_MAX))
    steps = (1, 1.5, 2, 3, 5) if len(decades) <= 3 else (1,)  # noqa: PLR2004
    values = [step * 10.0**decade for decade in decades[::between] for step in steps]
    return [value for value in values if low <= value <= high] or [low, high]


def _with_labels(shown: Sequence[Result], place_size: _Scale, place_ratio: _Scale) -> tuple[Point, ...]:
    """Return the points, the number of each beside it where it covers neither a point nor another number."""
    places = [(place_size(one.size_bytes), place_ratio(math.log(one.ratio))) for one in shown]
    taken = list(places)
    points = []
    for one, (x, y) in zip(shown, places, strict=True):
        beside = [
            (x + right * LABEL_WIDTH * 0.8, y + down * LABEL_HEIGHT)
            for distance in (1, 2)
            for right, down in ((distance, -1), (-distance, -1), (distance, 1), (-distance, 1))
        ]
        inside = [at for at in beside if LEFT < at[0] < RIGHT and TOP < at[1] < BOTTOM]
        label = next((at for at in inside if not any(_touch(at, other) for other in taken)), inside[0])
        taken.append(label)
        low, _, high = _ends(one)
        points.append(Point(one, x, y, place_ratio(math.log(low)), place_ratio(math.log(high)), *label))
    return tuple(points)


def _touch(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) < LABEL_WIDTH * 0.75 and abs(one[1] - other[1]) < LABEL_HEIGHT * 0.75
