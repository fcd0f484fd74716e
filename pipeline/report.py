"""The report of a result: one HTML file that needs nothing else, made of its provenance alone."""

import json
from collections.abc import Sequence
from typing import Any

from engines.comparison import AGREEMENT, KL_DIVERGENCE, KL_DIVERGENCE_P99, PERPLEXITY_RATIO
from engines.datasets import is_own
from engines.gates import Condition
from pipeline import pictures, speed
from pipeline.figures import (
    NOTHING,
    TASK_COLUMNS,
    change,
    headline,
    interval,
    model_name,
    perplexity,
    room,
    size,
    task_rows,
)
from pipeline.pages import picture, render
from pipeline.pictures import Interval, Loss, Speed
from pipeline.provenance import Benchmark, BenchmarkPoint, Comparison, Provenance, Spread

WORST_MAX = 10  # modules that are named
Rows = Sequence[Sequence[str]]


def job_report(made: Provenance) -> str:
    """Return the report's HTML."""
    return render(
        "job_report.html",
        title=f"{model_name(made.source)}, {made.recipe.short}",
        headline=headline(made),
        made=made,
        asked=_asked(made),
        lost=_lost(made),
        tasks=task_rows(made.tasks),
        task_columns=TASK_COLUMNS,
        gate=_gate(made),
        layers=_layers(made),
        speed=None if made.benchmark is None else _speed(made.benchmark),
        checks=[[one.name, "passed" if one.passed else "failed", one.detail] for one in made.verification],
        provenance=_provenance(made),
        costs=[[one.step, *map(room, vars(one.peak).values())] for one in made.costs],
        files=[[file.name, size(file.size_bytes), file.sha256] for file in made.result.files],
    )


def _asked(made: Provenance) -> Rows:
    parameters = {"method": made.recipe.method, **made.recipe.parameters}
    conditions = [Condition(one.metric, one.domain, one.max, one.min, one.task).short for one in made.evaluation.gate]
    rows = [
        ["model", _source(made)],
        ["recipe", made.recipe.short],
        ["all of its parameters", json.dumps(parameters, ensure_ascii=False)],
        ["judged on", f"{', '.join(made.evaluation.domains)}; {made.evaluation.windows} windows of each"],
        ["gate", ", ".join(conditions) or "none"],
    ]
    if asked := made.evaluation.tasks:
        rows.insert(-1, ["tasks", f"{', '.join(asked)}; {made.evaluation.task_items} items of each"])
    if (wanted := made.benchmark) is not None:
        contexts, batches = (", ".join(map(str, values)) for values in (wanted.context_tokens, wanted.batch_sizes))
        rows.append(["speed", f"contexts of {contexts} tokens, batches of {batches}, {wanted.repeats} repeats"])
    return rows


def _source(made: Provenance) -> str:
    source = made.source
    at = f" at {source.revision}" if source.revision else ""
    count = f"{source.parameter_count / 1e6:,.1f} million parameters"
    return f"{source.hub_id or model_name(source)}{at} ({source.architecture}, {count} in {source.dtype})"


def _lost(made: Provenance) -> dict[str, Any]:
    texts = {
        one.domain: Interval(ratio.value, ratio.low, ratio.high)
        for one in made.report
        if (ratio := one.measures.get(PERPLEXITY_RATIO)) is not None
    }
    limits = {
        text: min(bounds)
        for text in texts
        if (bounds := [one.max for one in made.gate if (one.metric, one.domain) == (PERPLEXITY_RATIO, text) if one.max])
    }
    drawn = pictures.loss_by_text(texts, "loss-by-text", "Rise of perplexity on each text", limits) if texts else None
    return {
        "columns": [
            *("text", "full precision", "this", "change"),
            *("KL divergence", "its 99th percentile", "same token likeliest", "windows"),
        ],
        "rows": [_lost_on(one) for one in made.report],
        "picture": drawn and picture(drawn),
    }


def _lost_on(one: Comparison) -> Sequence[str]:
    divergence, tail, agreement = (one.measures.get(name) for name in (KL_DIVERGENCE, KL_DIVERGENCE_P99, AGREEMENT))
    return [
        *(one.domain, perplexity(one.baseline), perplexity(one.result), change(one)),
        *(interval(divergence, 1, 4, ""), interval(tail, 1, 3, ""), interval(agreement, 100, 1, " %")),
        NOTHING if one.result is None else str(one.result.windows),
    ]


def _gate(made: Provenance) -> Rows:
    return [
        [
            Condition(one.metric, None, one.max, one.min).short,
            one.domain or one.task or NOTHING,
            interval(one.measured, 1, 4, ""),
            one.decision,
        ]
        for one in made.gate
    ]


def _layers(made: Provenance) -> dict[str, Any] | None:
    if not made.losses:
        return None
    losses = [Loss(one.layer, one.module, one.loss) for one in made.losses]
    worst = sorted(losses, key=lambda one: -one.loss)[:WORST_MAX]
    return {
        "picture": picture(pictures.loss_per_layer(losses, "loss-per-layer", "Loss of each layer")),
        "rows": [[one.module, str(one.layer), f"{one.loss:.4g}"] for one in worst],
    }


def _speed(found: Benchmark) -> dict[str, Any]:
    bars = {
        "prompt, tokens/s": [_bar(point, point.prompt_tokens_per_second) for point in found.points],
        "generation, tokens/s": [_bar(point, point.generation_tokens_per_second) for point in found.points],
    }
    return {
        "said": speed.circumstances(found),
        "picture": picture(pictures.speed_bars(bars, "speed", "Tokens in a second")),
        "columns": speed.COLUMNS,
        "rows": speed.rows(found),
    }


def _bar(point: BenchmarkPoint, found: Spread) -> Speed:
    return Speed(speed.place(point), found.median, found.min, found.max)


def _provenance(made: Provenance) -> Rows:
    source, hardware = made.source, made.hardware
    rows = [
        ["source", source.digest],
        ["result", f"{made.result.digest} ({made.result.format})"],
        ["tensors", ", ".join(f"{count} {kind}" for kind, count in made.result.tensor_types.items()) or NOTHING],
        ["quantized by", made.software.engine],
        ["judged by", made.software.judged_by],
        ["full precision by", made.software.baseline_by],
        ["made on", NOTHING if hardware is None else f"{hardware.gpu or hardware.cpu} ({hardware.device})"],
        ["libraries", ", ".join(f"{name} {version}" for name, version in made.software.libraries.items()) or NOTHING],
        ["licence", ", ".join(source.licenses) or "the source's card names none"],
    ]
    if (looked_at := made.calibration) is not None:
        text = "a text of its maker's own" if is_own(looked_at.text) else looked_at.text
        samples = f"{looked_at.samples} samples of {looked_at.tokens} tokens, seed {made.seed}"
        rows.append(["calibrated on", f"{text}: {samples}; SHA-256 of the text {looked_at.text_sha256}"])
    return rows
