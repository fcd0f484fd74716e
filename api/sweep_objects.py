"""A sweep as a client is sent it: what was asked, a row for each recipe, what is recommended, and what it has cost.

The answer's objects, and what is put into them.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

from api import responses, results, speed
from api.presenting import job_object
from api.results import condition_object
from core.settings import Settings
from db.shown import ShownJob
from db.states import JobStatus, is_terminal
from db.sweeps import ShownSweep, WorkShare
from engines.gates import Condition
from engines.intervals import Estimate
from pipeline import choosing
from pipeline.pricing import Prices

_AS_ASKED = (
    "priority",
    "metadata",
    "labels",
    "max_runtime_seconds",
    "max_pending_seconds",
    "max_attempts",
    "wait_for_capacity",
    "publish_to",
)
_UNTOLD = {"rows": None, "recommendation": None, "seconds": None, "cost": None}
BENCHMARK = "benchmark"  # the step
SPEED = "Tokens that it generates in a second alone, behind the shortest prompt; null where that was not measured"


class RowCost(BaseModel):
    """What one recipe costs; null is what the operator has set no price for, or nobody has measured."""

    work: float | None = Field(description="Of what was done for it alone so far")
    keeping_per_month: float | None = Field(description="Of its result")
    serving_per_million_tokens: float | None = Field(description="Of generating them one after the other")


class SweepRow(BaseModel):
    """One recipe of a sweep and what came of it; null is what is not known yet."""

    job: str
    recipe: str = Field(description="In short form")
    status: JobStatus
    error: responses.JobError | None
    verdict: str | None = Field(description="Of the gate: `passed` or `blocked`; null where there is none")
    size_bytes: int | None
    bits_per_weight: float | None
    comparison: dict[str, results.Comparison] | None = Field(
        description="By text, what was lost against full precision"
    )
    tasks: dict[str, results.TaskComparison] | None = Field(
        description="By task, what was lost against full precision; null, too, where none was asked for"
    )
    generation_tokens_per_second: float | None = Field(description=SPEED)
    pareto: bool = Field(description="Whether no other is at least as good in all and better in something")
    seconds: dict[str, float] = Field(
        description="How long workers have worked for it alone, by pool", examples=[{"cpu": 71.5}]
    )
    cost: RowCost | None = Field(description="Null where the operator has set no prices")


class Recommendation(BaseModel):
    """Which result to ship, decided on the worse end of each interval."""

    job: str | None = Field(description="Of the smallest result that meets the conditions; null if none does")
    recipe: str | None
    nearest: str | None = Field(description="The job that comes nearest where none does")
    alike: list[str] = Field(description="Jobs whose results cannot be told from it, at nearly its size")
    conditions: list[results.Condition] = Field(description="The sweep's gate, or where it has none the usual ones")
    provisional: bool = Field(description="Whether jobs that are not over may change it")
    reason: str = Field(description="In sentences, with the numbers")


class SweepCost(BaseModel):
    """What a sweep has cost so far; work for several of its jobs counts once. Null is what no price is set for."""

    currency: str
    work: float | None = Field(description="Of all of it")
    shared_work: float | None = Field(description="Of that part of it which was done for several jobs")
    keeping_per_month: float | None = Field(description="Of all results")


class Sweep(BaseModel):
    """Many recipes on one source, compared."""

    id: str
    object: Literal["sweep"] = "sweep"
    created_at: dt.datetime
    status: JobStatus = Field(
        description="Where its jobs are, taken together: over once all are, and `failed` if one of them has"
    )
    jobs: dict[str, int] = Field(description="How many of its jobs are in each status", examples=[{"succeeded": 6}])
    source: str
    preset: str | None = Field(description="By what name its recipes were asked for; null where they were listed")
    evaluation: responses.Evaluation
    gate: list[results.Condition]
    benchmark: speed.BenchmarkWanted | None = Field(description="Null where speed is not measured")
    priority: int
    metadata: dict[str, str]
    labels: list[str]
    max_runtime_seconds: int | None
    max_pending_seconds: int | None
    max_attempts: int | None = Field(description="Null where the operator's default holds")
    wait_for_capacity: bool
    publish_to: str | None = Field(description="The folder in which each result gets one of its own")
    warnings: list[str] = Field(description="Such as which recipes of a preset were left out, and why")
    rows: list[SweepRow] | None = Field(
        description="One for each recipe; told where one sweep is read, as what follows"
    )
    recommendation: Recommendation | None
    seconds: dict[str, float] | None = Field(description="How long workers have worked for it, by pool")
    cost: SweepCost | None = Field(description="Null, too, where the operator has set no prices")


class SweepPage(BaseModel):
    """Sweeps, newest first."""

    object: Literal["list"] = "list"
    data: list[Sweep]
    has_more: bool


@dataclass(frozen=True)
class Inside:
    """What of a sweep is told where it is read by itself.

    Attributes:
        jobs: its jobs, in the order of its recipes.
        work: how long workers have worked for them.
        prices: what that costs.
    """

    jobs: Sequence[ShownJob]
    work: Sequence[WorkShare]
    prices: Prices


def prices_of(settings: Settings) -> Prices:
    """Return what the operator has set."""
    return Prices(settings.price_currency, settings.price_cpu_hour, settings.price_gpu_hour, settings.price_gib_month)


def sweep_object(sweep: ShownSweep, inside: Inside | None = None) -> Sweep:
    """Return a sweep, with what is inside where it is read by itself."""
    asked = dict(sweep.request)
    conditions = [condition_object(condition) for condition in asked["gate"]]
    return Sweep(
        id=sweep.id,
        created_at=sweep.created_at,
        status=sweep.status,
        jobs=dict(sweep.job_counts),
        source=sweep.source,
        preset=sweep.preset,
        evaluation=responses.Evaluation(**asked["evaluation"]),
        gate=conditions,
        benchmark=speed.BenchmarkWanted(**benchmark) if (benchmark := asked.get("benchmark")) else None,
        **{name: asked[name] for name in _AS_ASKED},
        warnings=list(sweep.warnings),
        **(_UNTOLD if inside is None else _tell(inside, conditions)),
    )


def _tell(inside: Inside, gate: Sequence[results.Condition]) -> dict[str, Any]:
    shown = [job_object(job) for job in inside.jobs]
    candidates = [_candidate(job) for job in shown]
    asked = [Condition(one.metric, one.domain, one.max, one.min, one.task) for one in gate]
    conditions = asked or choosing.DEFAULT_CONDITIONS
    best = choosing.pareto(candidates)
    by_place: dict[int | None, dict[str, float]] = defaultdict(dict)
    for share in inside.work:
        by_place[share.position][share.pool] = share.seconds
    rows = [
        _row(job, job.id in best, by_place[place.sweep_position], inside.prices)
        for job, place in zip(shown, inside.jobs, strict=True)
    ]
    return {
        "rows": rows,
        "recommendation": _recommendation(choosing.recommend(candidates, conditions), shown, conditions),
        "seconds": _sum(by_place.values()),
        "cost": _cost(by_place, rows, inside.prices) if inside.prices.are_set else None,
    }


def _row(job: responses.Job, is_best: bool, seconds: Mapping[str, float], prices: Prices) -> SweepRow:
    result = job.result
    size_bytes = None if result is None else result.size_bytes
    generated = _generated_per_second(result)
    cost = RowCost(
        work=prices.of_work(seconds),
        keeping_per_month=prices.of_keeping(size_bytes),
        serving_per_million_tokens=prices.of_a_million_tokens(generated, _serving_pool(job)),
    )
    return SweepRow(
        job=job.id,
        recipe=job.recipe,
        status=job.status,
        error=job.error,
        verdict=job.verdict,
        size_bytes=size_bytes,
        bits_per_weight=None if result is None else result.bits_per_weight,
        comparison=None if result is None else result.comparison,
        tasks=None if result is None else result.tasks,
        generation_tokens_per_second=generated,
        pareto=is_best,
        seconds=dict(seconds),
        cost=cost if prices.are_set else None,
    )


def _candidate(job: responses.Job) -> choosing.Candidate:
    result = job.result
    return choosing.Candidate(
        id=job.id,
        name=job.recipe,
        is_over=is_terminal(job.status),
        has_result=job.status == JobStatus.SUCCEEDED and result is not None,
        size_bytes=None if result is None else result.size_bytes,
        measures={} if result is None else _measures({**(result.comparison or {}), **(result.tasks or {})}),
        verdict=job.verdict,
        generation_tokens_per_second=_generated_per_second(result),
        runtime=_runtime(result),
    )


def _measures(
    found: Mapping[str, results.Comparison | results.TaskComparison],
) -> dict[str, dict[str, Estimate]]:
    """Return what was measured, by text or task and by metric."""
    return {
        where: {
            metric: Estimate(estimate.value, estimate.low, estimate.high)
            for metric, estimate in comparison
            if isinstance(estimate, results.Estimate)
        }
        for where, comparison in found.items()
    }


def _generated_per_second(result: results.Result | None) -> float | None:
    """Return the speed of one sequence by itself, at the shortest of the contexts that were measured."""
    points = result.benchmark.points if result is not None and result.benchmark is not None else []
    alone = [point for point in points if point.batch_size == 1]
    shortest = min(alone, key=lambda point: point.context_tokens, default=None)
    return None if shortest is None else shortest.generation_tokens_per_second.median


def _runtime(result: results.Result | None) -> str | None:
    """Return what ran it on what: speeds of two of these are not compared."""
    if result is None or result.benchmark is None:
        return None
    hardware = result.benchmark.hardware
    return f"{result.benchmark.runtime} on {hardware.gpu or hardware.cpu}, {hardware.threads} threads"


def _serving_pool(job: responses.Job) -> str:
    """Return where its speed was measured; empty where it is not."""
    return next((step.pool for step in job.steps if step.kind == BENCHMARK), "")


def _recommendation(
    found: choosing.Recommendation, jobs: Sequence[responses.Job], conditions: Sequence[Condition]
) -> Recommendation:
    return Recommendation(
        job=found.chosen,
        recipe=next((job.recipe for job in jobs if job.id == found.chosen), None),
        nearest=found.nearest,
        alike=list(found.alike),
        conditions=[condition_object(asdict(one)) for one in conditions],
        provisional=found.is_provisional,
        reason=found.reason,
    )


def _cost(by_place: Mapping[int | None, Mapping[str, float]], rows: Sequence[SweepRow], prices: Prices) -> SweepCost:
    return SweepCost(
        currency=prices.currency,
        work=prices.of_work(_sum(by_place.values())),
        shared_work=prices.of_work(by_place.get(None, {})),
        keeping_per_month=prices.of_keeping(sum(row.size_bytes or 0 for row in rows)),
    )


def _sum(shares: Any) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for share in shares:
        for pool, seconds in share.items():
            total[pool] += seconds
    return dict(total)
