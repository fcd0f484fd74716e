"""The report of a sweep: one HTML file that needs nothing else, made of the sweep as a client is sent it."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from markupsafe import Markup

from api.results import Comparison, Estimate, TaskComparison
from api.sweep_objects import Sweep, SweepRow
from engines.comparison import PERPLEXITY_RATIO
from pipeline import pictures
from pipeline.figures import NOTHING, interval, rise, size
from pipeline.pages import picture, render
from pipeline.pictures import Interval, SizeAndLoss, Speed

KEPT = 16  # reports, of some 100 kB each: of many recipes on many texts one takes seconds
_CHOSEN, _UNBEATEN = "★", "●"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    recipe: str
    link: str
    marks: str
    is_chosen: bool
    cells: Sequence[str]


def sweep_report(sweep: Sweep, address: str) -> str:
    """Return the report's HTML; one that has been asked for lately is not drawn again.

    Args:
        sweep: with what is inside.
        address: of this server, ending in a slash, under which a job has its page.
    """
    return _drawn(sweep.model_dump_json(), address)


@functools.lru_cache(maxsize=KEPT)
def _drawn(document: str, address: str) -> str:
    sweep = Sweep.model_validate_json(document)
    rows, domains = sweep.rows or [], sweep.evaluation.domains
    return render(
        "sweep_report.html",
        id=sweep.id,
        title=f"{_source_name(sweep.source)}: {len(rows)} recipes compared",
        recommended=sweep.recommendation,
        asked=_asked(sweep),
        warnings=sweep.warnings,
        columns=["recipe", "", "status", "size", "bits", *domains, "tokens/s"],
        rows=[_row(sweep, row, address) for row in rows],
        texts=[_on_text(sweep, place, domain) for place, domain in enumerate(domains)],
        tasks=[_on_task(sweep, task) for task in sweep.evaluation.tasks],
        task_columns=["recipe", "accuracy", "points lost", "ROUGE-L", "points lost"],
        speed=_speed(rows),
        errors=[(row.recipe, row.error.message) for row in rows if row.error is not None],
        took=_took(sweep),
    )


def _asked(sweep: Sweep) -> Sequence[Sequence[str]]:
    held_to = sweep.recommendation.conditions if sweep.recommendation is not None else sweep.gate
    return [
        ["model", _source_name(sweep.source)],
        ["recipes", sweep.preset or "listed one by one"],
        ["judged on", f"{', '.join(sweep.evaluation.domains)}; {sweep.evaluation.windows} windows of each"],
        *_tasks_asked(sweep),
        ["gate", ", ".join(one.short for one in sweep.gate) or "none"],
        ["recommended by", ", ".join(one.short for one in held_to)],
        ["status", ", ".join(f"{count} {status}" for status, count in sweep.jobs.items())],
        ["sweep", f"{sweep.id}, submitted {sweep.created_at:%Y-%m-%d %H:%M} UTC"],
    ]


def _row(sweep: Sweep, row: SweepRow, address: str) -> Row:
    is_chosen = sweep.recommendation is not None and sweep.recommendation.job == row.job
    marks = [mark for mark, holds in ((_CHOSEN, is_chosen), (_UNBEATEN, row.pareto)) if holds]
    bits, speed = row.bits_per_weight, row.generation_tokens_per_second
    cells = [
        row.verdict if row.verdict == "blocked" else row.status,
        NOTHING if row.size_bytes is None else size(row.size_bytes),
        NOTHING if bits is None else f"{bits:.2f}",
        *(_rise(row, domain) for domain in sweep.evaluation.domains),
        NOTHING if speed is None else f"{speed:,.4g}",
    ]
    return Row(row.recipe, f"{address}jobs/{row.job}", " ".join(marks), is_chosen, cells)


def _rise(row: SweepRow, domain: str) -> str:
    ratio = _ratio(row, domain)
    if ratio is None:
        return NOTHING
    return rise(Interval(ratio.value, None, None))


def _on_text(sweep: Sweep, place: int, domain: str) -> dict[str, Any]:
    rows = [(row.recipe, (row.comparison or {}).get(domain)) for row in sweep.rows or ()]
    return {
        "name": domain,
        "picture": _size_against_loss(sweep, place, domain),
        "rows": [[recipe, *_lost(found)] for recipe, found in rows if found is not None],
    }


def _tasks_asked(sweep: Sweep) -> Sequence[Sequence[str]]:
    asked = sweep.evaluation
    return [["tasks", f"{', '.join(asked.tasks)}; {asked.task_items} items of each"]] if asked.tasks else []


def _on_task(sweep: Sweep, task: str) -> dict[str, Any]:
    rows = [(row.recipe, (row.tasks or {}).get(task)) for row in sweep.rows or ()]
    return {"name": task, "rows": [[recipe, *_scored(found)] for recipe, found in rows if found is not None]}


def _scored(found: TaskComparison) -> Sequence[str]:
    return [
        interval(found.accuracy, 100, 1, " %"),
        interval(found.accuracy_drop, 100, 1, ""),
        interval(found.rouge_l, 100, 1, " %"),
        interval(found.rouge_l_drop, 100, 1, ""),
    ]


def _lost(found: Comparison) -> Sequence[str]:
    return [
        NOTHING if found.perplexity_ratio is None else rise(found.perplexity_ratio),
        interval(found.kl_divergence, 1, 4, ""),
        interval(found.kl_divergence_p99, 1, 3, ""),
        interval(found.agreement, 100, 1, " %"),
    ]


def _size_against_loss(sweep: Sweep, place: int, domain: str) -> Markup | None:
    points = [
        SizeAndLoss(row.recipe, row.size_bytes, _interval(ratio), row.pareto)
        for row in sweep.rows or ()
        if row.size_bytes is not None and (ratio := _ratio(row, domain)) is not None
    ]
    if not points:
        return None
    bounds = [
        one.max for one in sweep.gate if one.metric == PERPLEXITY_RATIO and one.domain in (None, domain) and one.max
    ]
    time.sleep(0)  # a picture takes a tenth of a second, between which the server goes on with other requests
    title = f"Size against loss on {domain}"
    drawn = pictures.size_against_loss(points, f"loss-{place}", title, min(bounds, default=None))
    return picture(drawn)


def _ratio(row: SweepRow, domain: str) -> Estimate | None:
    found = (row.comparison or {}).get(domain)
    return None if found is None else found.perplexity_ratio


def _interval(found: Estimate) -> Interval:
    return Interval(found.value, found.low, found.high)


def _speed(rows: Sequence[SweepRow]) -> Markup | None:
    bars = [
        Speed(row.recipe, row.generation_tokens_per_second)
        for row in rows
        if row.generation_tokens_per_second is not None
    ]
    if not bars:
        return None
    return picture(pictures.speed_bars({"generation, tokens/s": bars}, "speed", "Tokens generated in a second"))


def _took(sweep: Sweep) -> Sequence[Sequence[str]]:
    seconds = sweep.seconds or {}
    rows = [[f"work on {pool}", f"{spent:,.0f} s"] for pool, spent in sorted(seconds.items())]
    if (cost := sweep.cost) is not None:
        told = {"cost of all work": cost.work, "keeping all results, a month": cost.keeping_per_month}
        rows += [[name, f"{value:.4f} {cost.currency}"] for name, value in told.items() if value is not None]
    return rows


def _source_name(source: str) -> str:
    """Return the model's own name, without the folders that lead to it."""
    return PurePosixPath(unquote(urlsplit(source).path)).name or "model"
