"""Pictures of what was measured, as SVG that stands inside an HTML page. Drawn by Matplotlib without a display.

Pure functions from numbers to text: the same numbers give the same bytes. Words stay words, so that they can be
searched and read aloud; a picture has a white ground, whatever the page has. Refuses to know: HTML, and where numbers
come from.
"""

import html
import io
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.labels import write_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_INCHES, HEIGHT_INCHES = 7.2, 3.6
KINDS_MAX = 8  # of modules that have a line
LINEAR_PERCENT = 1.0  # the change of perplexity up to which the scale is linear; beyond it is logarithmic
WIDE_PERCENT = 10.0  # a loss from which on the logarithmic scale is taken

_BLUE, _ORANGE, _GREY, _RED = "#1f5fa8", "#c2570c", "#6b7280", "#b42318"
_COLOURS = (_BLUE, _ORANGE, "#2f7d32", "#7b3fa0", "#00797a", "#a3195b", "#7a5c00", "#4b5563")
_MARKERS = "osD^vPX*"
_STYLE: Any = {  # Matplotlib's types name each setting
    "svg.fonttype": "none",
    "text.parse_math": False,  # a recipe with two dollars is not a formula
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": "#9ca3af",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
}
_FONT, _FONTS = "'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif"  # the widths are those of the first
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_TAG = re.compile(r"<[^>]*>")
_NAME = re.compile(r'(\bid="|\bhref="#|url\(#)')
_ROOT = re.compile(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>")
_OF_THE_PAGE = re.compile(r"\s*<style[^>]*>.*?</style>|\s*<metadata>.*?</metadata>", re.DOTALL)
_LAYER = re.compile(r"^(?:.*\.)?(?:layers|blocks|blk|h)\.\d+\.")
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its interval, which are None where they are not known."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SizeAndLoss:
    """A result, as a point.

    Attributes:
        label: what stands beside it.
        size_bytes: of its files.
        ratio: its perplexity by full precision's.
        is_best: whether no other result beats it.
    """

    label: str
    size_bytes: int
    ratio: Interval
    is_best: bool = True


@dataclass(frozen=True)
class Loss:
    """What was measured of one module."""

    layer: int
    module: str
    loss: float


@dataclass(frozen=True)
class Speed:
    """Tokens in a second: the median of repeats, with the least and the most of them where there were several."""

    label: str
    median: float
    least: float | None = None
    most: float | None = None


def size_against_loss(points: Sequence[SizeAndLoss], name: str, title: str, limit: float | None = None) -> str:
    """Return results by their size and by how much perplexity rose, with intervals.

    Args:
        points: at least one.
        name: unique in the page.
        title: what the picture shows, for whoever does not see it.
        limit: the highest ratio that was asked for, drawn as a line.
    """

    def draw(axes: "Axes") -> None:
        unit, scale = ("GB", 1e9) if max(point.size_bytes for point in points) >= 10**9 else ("MB", 1e6)
        best = sorted((point for point in points if point.is_best), key=lambda point: point.size_bytes)
        along = [point.size_bytes / scale for point in best], [_percent(point.ratio.value) for point in best]
        axes.plot(*along, color=_BLUE, linewidth=1, alpha=0.5)
        axes.axhline(0, color=_GREY, linewidth=1)  # full precision
        for is_best, colour, marker in ((False, _GREY, "s"), (True, _BLUE, "o")):
            _draw_points(axes, [point for point in points if point.is_best == is_best], scale, colour, marker)
        if limit is not None:
            axes.axhline(_percent(limit), color=_RED, linestyle="--", linewidth=1, label="limit of the gate")
            axes.legend(loc="upper right", frameon=False)
        if max(abs(_percent(point.ratio.value)) for point in points) >= WIDE_PERCENT:
            _widen(axes, points)
        axes.margins(x=0.12, y=0.14)
        axes.set_xlabel(f"size, {unit}")
        axes.set_ylabel("rise of perplexity, %")
        write_beside(axes, [(p.size_bytes / scale, _percent(p.ratio.value), p.label) for p in points])

    return _picture(draw, name, title)


def loss_by_text(texts: Mapping[str, Interval], name: str, title: str, limits: Mapping[str, float]) -> str:
    """Return how much perplexity rose on each text, with its interval.

    Args:
        texts: at least one; by its name the ratio to full precision.
        name: unique in the page.
        title: what the picture shows.
        limits: by the name of a text the highest ratio that was asked for.
    """

    def draw(axes: "Axes") -> None:
        axes.axvline(0, color=_GREY, linewidth=1)  # full precision
        for row, (text, found) in enumerate(texts.items()):
            ratio = _percent(found.value)
            axes.errorbar(ratio, row, xerr=_arms(found), fmt="o", color=_BLUE, markersize=6, capsize=4)
            axes.annotate(f"{ratio:+.2f} %", (ratio, row), (0, 8), textcoords="offset points", ha="center", fontsize=8)
            if text in limits:
                axes.plot([_percent(limits[text])] * 2, [row - 0.35, row + 0.35], color=_RED, linestyle="--")
        axes.set_yticks(range(len(texts)), list(texts))
        axes.set_ylim(len(texts) - 0.4, -0.6)
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("rise of perplexity, %" + (" (dashed: limit of the gate)" if limits else ""))

    return _pictures(lambda all_axes: draw(all_axes[0]), name, title, height_inches=0.8 + 0.5 * len(texts))


def loss_per_layer(losses: Sequence[Loss], name: str, title: str) -> str:
    """Return what was measured of each layer, a line for each kind of module: those with the largest values.

    Args:
        losses: at least one.
        name: unique in the page.
        title: what the picture shows.
    """
    by_kind: dict[str, dict[int, float]] = defaultdict(dict)
    for loss in losses:
        by_kind[_kind(loss.module)][loss.layer] = loss.loss
    kinds = sorted(by_kind, key=lambda kind: (-max(by_kind[kind].values()), kind))[:KINDS_MAX]

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        for kind, colour, marker in zip(kinds, _COLOURS, _MARKERS, strict=False):
            along = sorted(by_kind[kind].items())
            places = [layer for layer, _ in along], [value for _, value in along]
            axes.plot(*places, color=colour, marker=marker, markersize=4, linewidth=1.2, label=kind)
        if all(value > 0 for kind in kinds for value in by_kind[kind].values()):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer")
        axes.set_ylabel("loss, as the method measures it")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)

    return _picture(draw, name, title)


def speed_bars(groups: Mapping[str, Sequence[Speed]], name: str, title: str) -> str:
    """Return speeds as bars, side by side for each kind of speed, each on a scale of its own.

    Args:
        groups: at least one; what is measured, and a bar for each thing that it was measured of.
        name: unique in the page.
        title: what the picture shows.
    """
    longest = max(len(bars) for bars in groups.values())

    def draw_all(all_axes: Sequence["Axes"]) -> None:
        for axes, (measured, bars), colour in zip(all_axes, groups.items(), _COLOURS, strict=False):
            for place, bar in enumerate(bars):
                ends = None if bar.least is None or bar.most is None else (bar.least, bar.most)
                arms = None if ends is None else [[max(0, bar.median - ends[0])], [max(0, ends[1] - bar.median)]]
                axes.barh(place, bar.median, xerr=arms, color=colour, height=0.6, capsize=3, ecolor="#111827")
                axes.annotate(
                    f"{bar.median:,.4g}", (0, place), (4, 0), textcoords="offset points", va="center", color="white"
                )
            axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
            axes.set_xlabel(measured)

    return _pictures(draw_all, name, title, count=len(groups), height_inches=0.9 + 0.32 * longest)


def _percent(ratio: float) -> float:
    return 100 * (ratio - 1)


def _arms(found: Interval) -> list[list[float]] | None:
    """Return how far an interval goes down and up from its figure, in percent."""
    if found.low is None or found.high is None:
        return None
    return [[max(0.0, 100 * (found.value - found.low))], [max(0.0, 100 * (found.high - found.value))]]


def _draw_points(axes: "Axes", points: Sequence[SizeAndLoss], scale: float, colour: str, marker: str) -> None:
    """Draw points in one go, those with an interval and those without: one by one they take ten times as long."""
    for has_arms in (True, False):
        found = [(point, arms) for point in points if ((arms := _arms(point.ratio)) is not None) == has_arms]
        if found:
            places = [p.size_bytes / scale for p, _ in found], [_percent(p.ratio.value) for p, _ in found]
            ends = [[arms[end][0] for _, arms in found if arms] for end in (0, 1)] if has_arms else None
            axes.errorbar(*places, yerr=ends, fmt=marker, color=colour, markersize=5, capsize=3)


def _widen(axes: "Axes", points: Sequence[SizeAndLoss]) -> None:
    """Take a scale on which small and large losses are told apart."""
    from matplotlib.ticker import FixedLocator, ScalarFormatter

    axes.set_yscale("symlog", linthresh=LINEAR_PERCENT)
    most = max(abs(_percent(point.ratio.high or point.ratio.value)) for point in points)
    marks = [mark for mark in (1, 3, 10, 30, 100, 300, 1000, 10_000, 100_000, 10**6) if mark <= 3 * most]
    below = [
        -mark for mark in marks if any(_percent(point.ratio.low or point.ratio.value) <= -mark for point in points)
    ]
    axes.yaxis.set_major_locator(FixedLocator([*below, 0, *marks]))
    axes.yaxis.set_major_formatter(ScalarFormatter())


def _kind(module: str) -> str:
    """Return which kind of module it is, the same in every layer."""
    return _NUMBER.sub("#", _LAYER.sub("", module))


def _picture(draw: "Callable[[Axes], None]", name: str, title: str) -> str:
    return _pictures(lambda all_axes: draw(all_axes[0]), name, title)


def _pictures(
    draw: "Callable[[Sequence[Axes]], None]",
    name: str,
    title: str,
    *,
    count: int = 1,
    height_inches: float = HEIGHT_INCHES,
) -> str:
    """Return what ``draw`` draws on ``count`` pairs of axes, side by side."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    written = io.StringIO()
    # Matplotlib keeps its style for the whole process; nothing here waits, so that greenlets do not see each other's.
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=72, layout="constrained")
        canvas = FigureCanvasSVG(figure)
        draw([figure.add_subplot(1, count, place + 1) for place in range(count)])
        canvas.print_svg(written, metadata=_NO_METADATA)  # type: ignore[no-untyped-call]  # `savefig` draws twice
    return _for_a_page(written.getvalue(), name, title)


def _for_a_page(svg: str, name: str, title: str) -> str:
    """Return an SVG document as an element that shares no names and no style with others in its page."""
    element = _OF_THE_PAGE.sub("", svg[svg.index("<svg") :])
    element = _TAG.sub(lambda tag: _NAME.sub(rf"\g<1>{name}-", tag[0]).replace(_FONT, _FONTS), element)
    said = html.escape(title)
    root = r'<svg class="picture" \1 role="img"'
    label = f' aria-label="{said}"><title>{said}</title>'
    return _ROOT.sub(lambda found: found.expand(root) + label, element, count=1)
