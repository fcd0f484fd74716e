"""What came of a job: the answer's objects, and what is put into them from what its steps have found out."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from api import speed
from api.gating import TASK_METRICS
from db.shown import ShownJob, ShownStep
from db.states import StepStatus
from engines import serving
from engines.comparison import METRICS
from engines.gates import Condition as GateCondition
from engines.kv_cache import serving_memory
from engines.model_facts import ModelFacts
from engines.recipe import Recipe


class Estimate(BaseModel):
    """A figure with its 95 % interval."""

    value: float
    low: float | None = Field(description="Null where there was too little to tell, as the next one")
    high: float | None


class Comparison(BaseModel):
    """The result and full precision on the same tokens of one text."""

    items: int = Field(description="How many windows were looked at")
    tokens: int = Field(description="How many tokens of them were scored")
    baseline_perplexity: float = Field(description="What full precision scores on the same windows")
    perplexity: float
    perplexity_ratio: Estimate | None = Field(description="By full precision's: 1 where nothing is lost")
    kl_divergence: Estimate | None = Field(description="From full precision, the mean over all tokens, in nats")
    kl_divergence_p99: Estimate | None = Field(description="What 99 of 100 tokens stay below")
    agreement: Estimate | None = Field(description="The part of the tokens for which both find the same one likeliest")


class TaskScore(BaseModel):
    """What is scored in a task."""

    accuracy: float = Field(description="The part of the answers that are right")
    rouge_l: float | None = Field(description="The mean ROUGE-L; null where the dataset is not of kind reference")


class TaskComparison(BaseModel):
    """The result and full precision on the same items of one task; null is what is not measured of its kind."""

    items: int = Field(description="How many items were looked at")
    baseline: TaskScore = Field(description="What full precision scores on the same items")
    accuracy: Estimate | None = Field(description="The part of the result's answers that are right")
    accuracy_drop: Estimate | None = Field(description="Full precision's accuracy less the result's")
    rouge_l: Estimate | None = Field(description="The mean ROUGE-L of the result's answers")
    rouge_l_drop: Estimate | None = Field(description="Full precision's ROUGE-L less the result's")


class Condition(BaseModel):
    """What a result must meet."""

    metric: str
    domain: str | None = Field(description="The text on which it is measured; null for each, and where it is of tasks")
    task: str | None = Field(description="The task on which it is measured; null for each, and where it is of texts")
    max: float | None
    min: float | None
    short: str = Field(description="In short form, as a request may name it")


class GateOutcome(Condition):
    """What became of one condition on one text or task."""

    measured: Estimate | None = Field(description="With the interval on which it was decided, which is wider than 95 %")
    decision: Literal["passed", "blocked", "undecided"] = Field(description="What is undecided counts as blocked")


class Baseline(BaseModel):
    """What full precision scores."""

    perplexity: dict[str, float]


class Check(BaseModel):
    """One thing that verification looked at."""

    name: str
    passed: bool
    detail: str


class Runtime(BaseModel):
    """That one runtime serves such files, or that it does not: as its sources say, and not tried here.

    A runtime is listed once more where another of its kernels serves them on other GPUs.
    """

    runtime: str
    version: str = Field(description="The one whose sources were read")
    serves: bool
    gpus: str | None = Field(description="On what it serves them; null where it does not")
    how: str | None = Field(description="By what it serves them; null where it does not")
    why_not: str | None = Field(description="Null where it serves them")
    sources: list[str]


class Calibration(BaseModel):
    """What a method looked at."""

    text: str = Field(description="Its name, or its id where it is one of the team's own")
    text_sha256: str
    samples: int
    tokens: int = Field(description="Length of each sample")
    sha256: str = Field(description="Of all samples, in order")
    unknown_share: float = Field(description="Which part of the tokens the tokenizer does not know")
    overlap: dict[str, float] = Field(description="Which part of each text that is judged on is in the samples, too")
    warnings: list[str]


class Result(BaseModel):
    """What is known so far; each field is null until its step has finished."""

    size_bytes: int | None
    bits_per_weight: float | None
    tensor_types: dict[str, int] | None = Field(description="Tensors of each storage type, as really written")
    source_size_bytes: int | None
    calibration: Calibration | None = Field(description="Null, too, where the method looks at no text")
    baseline: Baseline | None
    perplexity: dict[str, float] | None
    comparison: dict[str, Comparison] | None = Field(description="By text, what was lost against full precision")
    tasks: dict[str, TaskComparison] | None = Field(
        description="By task, what was lost against full precision; null, too, where none was asked for"
    )
    gate: list[GateOutcome] | None = Field(description="What became of the gate's conditions on each text and task")
    looks: int | None = Field(description="How often the gate looked, each time at twice as much text")
    verification: list[Check] | None = Field(description="What was looked at before the result was published")
    runtimes: list[Runtime] | None = Field(
        description="Which runtimes can serve the result, and which cannot; told where one job is read"
    )
    serving_memory: list[speed.ServingMemory] | None = Field(
        description="At usual contexts, and at the longest that the model can read; told where one job is read"
    )
    benchmark: speed.Benchmark | None = Field(description="Null, too, where none was asked for")
    seconds: float | None


def runtime_object(note: serving.Note) -> Runtime:
    """Return what is known of one runtime."""
    return Runtime(**dataclasses.asdict(note))


def result_of(job: ShownJob, recipe: Recipe | None) -> Result | None:
    """Return what the finished steps found out, None where none of them finds out anything.

    Args:
        job: whose steps.
        recipe: what serves its result is told by; None leaves that out, and what serving takes.
    """
    done = done_steps(job)
    if not done.keys() & {"calibrate", "quantize", "reference", "evaluate"}:
        return None
    written = facts_of(done.get("quantize"))
    baseline = _baseline(done)
    return Result(
        size_bytes=written.get("size_bytes"),
        bits_per_weight=written.get("bits_per_weight"),
        tensor_types=written.get("tensor_types"),
        source_size_bytes=facts_of(done.get("fetch")).get("model", {}).get("weight_bytes"),
        calibration=_calibration(job, done.get("calibrate")),
        baseline=None if baseline is None else Baseline(perplexity=baseline),
        perplexity=_perplexity(done.get("evaluate")),
        comparison=_comparison(done),
        tasks=_tasks(done.get("evaluate")),
        gate=_gate(done.get("evaluate")),
        looks=facts_of(done.get("evaluate")).get("looks"),
        verification=facts_of(done.get("verify")).get("checks"),
        runtimes=[runtime_object(note) for note in recipe.runtimes] if recipe and "quantize" in done else None,
        serving_memory=_serving_memory(done) if recipe else None,
        benchmark=_benchmark(done.get("benchmark")),
        seconds=_seconds(job),
    )


def _serving_memory(done: Mapping[str, ShownStep]) -> list[speed.ServingMemory] | None:
    """Return what serving a result takes; None before there is one."""
    size_bytes = facts_of(done.get("quantize")).get("size_bytes")
    model = facts_of(done.get("fetch")).get("model")
    if size_bytes is None or model is None:
        return None
    try:
        facts = ModelFacts.of(model)
    except (KeyError, TypeError):  # another version has fetched it
        return None
    return [speed.ServingMemory(**one) for one in serving_memory(facts, size_bytes)]


def _benchmark(step: ShownStep | None) -> speed.Benchmark | None:
    """Return what was measured of a result's speed."""
    facts = facts_of(step)
    if not facts:
        return None
    return speed.Benchmark(**{name: facts[name] for name in speed.Benchmark.model_fields})


def _calibration(job: ShownJob, step: ShownStep | None) -> Calibration | None:
    """Return what a method looked at, under the name by which the job asked for it."""
    facts = facts_of(step)
    if not facts:
        return None
    return Calibration(**{**facts, "text": job.recipe.get("calibration_text", facts["text"])})


def _seconds(job: ShownJob) -> float | None:
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()


def facts_of(step: ShownStep | None) -> Mapping[str, Any]:
    """Return what a step has found out; nothing of one that is not done."""
    return {} if step is None else step.facts or {}


def _perplexity(step: ShownStep | None) -> Mapping[str, float] | None:
    return None if step is None else {domain: score["perplexity"] for domain, score in (step.scores or {}).items()}


def _baseline(done: Mapping[str, ShownStep]) -> Mapping[str, float] | None:
    """Return what full precision scores: on the result's own windows, once these are known."""
    return facts_of(done.get("evaluate")).get("baseline_perplexity") or _perplexity(done.get("reference"))


def _comparison(done: Mapping[str, ShownStep]) -> dict[str, Comparison] | None:
    """Return what was lost on each text; None before that is known, and of what an earlier version has evaluated."""
    if not {"reference", "evaluate"} <= done.keys():
        return None
    baseline, scores = _baseline(done) or {}, done["evaluate"].scores or {}
    return {
        domain: Comparison(
            items=score["items"],
            tokens=score["tokens"],
            baseline_perplexity=baseline[domain],
            perplexity=score["perplexity"],
            **{metric: (score["measures"] or {}).get(metric) for metric in METRICS},
        )
        for domain, score in scores.items()
        if domain in baseline
    }


def _tasks(step: ShownStep | None) -> dict[str, TaskComparison] | None:
    tasks = facts_of(step).get("tasks")
    if tasks is None:
        return None
    return {task: task_comparison(found) for task, found in tasks.items()}


def task_comparison(found: Mapping[str, Any]) -> TaskComparison:
    """Return what was measured by one task, as it was stored."""
    baseline = found["baseline"]
    return TaskComparison(
        items=found["items"],
        baseline=TaskScore(accuracy=baseline["accuracy"], rouge_l=baseline.get("rouge_l")),
        **{metric: found["measures"].get(metric) for metric in TASK_METRICS},
    )


def _gate(step: ShownStep | None) -> list[GateOutcome] | None:
    outcomes = facts_of(step).get("gate")
    return (
        None
        if outcomes is None
        else [
            GateOutcome(
                **condition_object(outcome).model_dump(), measured=outcome["measured"], decision=outcome["decision"]
            )
            for outcome in outcomes
        ]
    )


def verdict_of(job: ShownJob) -> Literal["passed", "blocked"] | None:
    """Return what a job's gate has decided."""
    verdict: Literal["passed", "blocked"] | None = facts_of(done_steps(job).get("evaluate")).get("verdict")
    return verdict


def condition_object(asked: Mapping[str, Any]) -> Condition:
    """Return a condition of a gate, as it was stored."""
    limits = {name: asked.get(name) for name in ("domain", "max", "min", "task")}
    known = GateCondition(asked["metric"], **limits)
    return Condition(**dataclasses.asdict(known), short=known.short)


def done_steps(job: ShownJob) -> dict[str, ShownStep]:
    """Return the steps of a job that have succeeded, by their kind."""
    return {step.kind: step for step in job.steps if step.status == StepStatus.SUCCEEDED}
