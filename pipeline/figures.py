"""How the figures of a result are written for people, in its model card and in its report."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from engines.comparison import PERPLEXITY_RATIO
from pipeline.provenance import Comparison, Provenance, Score, Source, TaskComparison

TASK_SCORES = {"accuracy": "accuracy", "rouge_l": "ROUGE-L"}
TASK_COLUMNS = ("task", "score", "full precision", "this", "points lost", "items")
NOTHING = "\N{EN DASH}"


class Interval(Protocol):
    """A figure and the ends of its interval, however it is kept."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float | None: ...  # noqa: D102
    @property
    def high(self) -> float | None: ...  # noqa: D102


def model_name(source: Source) -> str:
    """Return the model's own name, without the folders that lead to it."""
    return PurePosixPath(source.hub_id or unquote(urlsplit(source.url).path)).name or "model"


def headline(made: Provenance) -> str:
    """Return what a result comes to in one sentence: its size, what was lost on each text and task, and the verdict."""
    bits = "" if made.result.bits_per_weight is None else f" ({made.result.bits_per_weight:.2f} bits per weight)"
    told = [f"{size(made.result.size_bytes)} in place of {size(made.source.weight_bytes)}{bits}"]
    if losses := [f"{change(one)} on {one.domain}" for one in made.report if change(one) != NOTHING]:
        told.append(f"perplexity {', '.join(losses)}")
    if drops := [(one.task, one.measures["accuracy_drop"]) for one in made.tasks if "accuracy_drop" in one.measures]:
        lost = [f"{interval(drop, 100, 1, '')} points on {task}" for task, drop in drops]
        told.append(f"accuracy lost {', '.join(lost)}")
    if made.verdict is not None:
        told.append(f"gate {made.verdict}")
    return "; ".join(told) + "."


def size(size_bytes: int | None) -> str:
    """Return how much room files take."""
    if size_bytes is None:
        return "an unknown size"
    return f"{size_bytes / 1e9:,.2f} GB" if size_bytes >= 10**9 else f"{size_bytes / 1e6:,.1f} MB"


def room(size_bytes: int | None) -> str:
    """Return how much memory or disk was taken, where it is known."""
    return NOTHING if size_bytes is None else size(size_bytes)


def perplexity(score: Score | None) -> str:
    """Return how well a text is predicted."""
    return NOTHING if score is None else f"{score.perplexity:.3f}"


def change(one: Comparison) -> str:
    """Return how much perplexity rose against full precision, with its interval."""
    if one.baseline is None or one.result is None:
        return NOTHING
    ratio = one.measures.get(PERPLEXITY_RATIO)
    if ratio is None:  # an earlier version evaluated
        return f"{100 * (one.result.perplexity / one.baseline.perplexity - 1):+.2f} %"
    return rise(ratio)


def rise(ratio: Interval) -> str:
    """Return a ratio of perplexities as what it adds to full precision's, with its interval."""
    ends = "" if ratio.low is None or ratio.high is None else f" [{_percent(ratio.low)}, {_percent(ratio.high)}]"
    return f"{_percent(ratio.value)} %{ends}"


def interval(found: Interval | None, scale: float, digits: int, unit: str) -> str:
    """Return a figure with its interval; without that where there was too little to tell."""
    if found is None:
        return NOTHING
    value = f"{scale * found.value:.{digits}f}{unit}"
    if found.low is None or found.high is None:
        return value
    return f"{value} [{scale * found.low:.{digits}f}, {scale * found.high:.{digits}f}]"


def task_rows(tasks: Iterable[TaskComparison]) -> list[list[str]]:
    """Return a line for each score of each task, under ``TASK_COLUMNS``."""
    rows = []
    for one in tasks:
        for metric, name in TASK_SCORES.items():
            baseline: float | None = getattr(one.baseline, metric)
            if baseline is not None:
                scored, lost = one.measures.get(metric), one.measures.get(f"{metric}_drop")
                figures = [f"{100 * baseline:.1f} %", interval(scored, 100, 1, " %"), interval(lost, 100, 1, "")]
                rows.append([one.task, name, *figures, str(one.items)])
    return rows


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.2f}"
