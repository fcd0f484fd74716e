"""The API's objects around sweeps, as typed dictionaries; see ``objects.py``."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from fewbits_client.objects import OVER, BenchmarkWanted, Evaluation, JobError, JobStatus
from fewbits_client.results import Comparison, Condition, TaskComparison

Recipe = str | Mapping[str, Any]


class RowCost(TypedDict):
    """What one recipe costs; null is what the operator has set no price for, or nobody has measured."""

    work: float | None
    keeping_per_month: float | None
    serving_per_million_tokens: float | None


class SweepRow(TypedDict):
    """One recipe of a sweep and what came of it; null is what is not known yet."""

    job: str
    recipe: str
    status: JobStatus
    error: JobError | None
    verdict: Literal["passed", "blocked"] | None
    size_bytes: int | None
    bits_per_weight: float | None
    comparison: dict[str, Comparison] | None
    tasks: dict[str, TaskComparison] | None
    generation_tokens_per_second: float | None
    pareto: bool
    seconds: dict[str, float]
    cost: RowCost | None


class Recommendation(TypedDict):
    """Which result to ship, and why; `nearest` is the job that comes nearest where none meets the conditions."""

    job: str | None
    recipe: str | None
    nearest: str | None
    alike: list[str]
    conditions: list[Condition]
    provisional: bool
    reason: str


class SweepCost(TypedDict):
    """What a sweep has cost so far, in the operator's currency."""

    currency: str
    work: float | None
    shared_work: float | None
    keeping_per_month: float | None


class Sweep(TypedDict):
    """Many recipes on one source, compared; in lists all from `rows` on is null."""

    id: str
    object: Literal["sweep"]
    created_at: str
    status: JobStatus
    jobs: dict[str, int]
    source: str
    preset: str | None
    evaluation: Evaluation
    gate: list[Condition]
    benchmark: BenchmarkWanted | None
    priority: int
    metadata: dict[str, str]
    labels: list[str]
    max_runtime_seconds: int | None
    max_pending_seconds: int | None
    max_attempts: int | None
    wait_for_capacity: bool
    publish_to: str | None
    warnings: list[str]
    rows: list[SweepRow] | None
    recommendation: Recommendation | None
    seconds: dict[str, float] | None
    cost: SweepCost | None


def unfinished_jobs(sweep: Sweep) -> Sequence[str]:
    """Return the ids of the jobs of a sweep that are not over."""
    return [row["job"] for row in sweep["rows"] or () if row["status"] not in OVER]
