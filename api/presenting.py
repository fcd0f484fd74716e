"""Rows of Postgres as the API's objects."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from api import responses, results, speed
from core.dataset_kinds import DatasetKind
from core.errors import RequestError
from db.quotas import Share
from db.shown import ShownJob, ShownStep
from db.states import AttemptOutcome, StepStatus
from db.tables import Artifact, Attempt, Dataset, Event, LogChunk, Metric, Step
from engines.methods.base import Method, Preset
from engines.model_facts import ModelFacts
from engines.recipe import Recipe, parse_recipe, preset_recipe


def job_object(job: ShownJob, waits_for: Sequence[str] | None = None) -> responses.Job:
    """Return a job with its steps and what is known of its result.

    Args:
        job: as it was read.
        waits_for: why it waits, where it is read by itself; then what serves its result is told, too. In a list both
            would be most of what is sent.
    """
    recipe = _recipe(job)
    return responses.Job(
        id=job.id,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        status=job.status,
        source=job.source,
        method=job.method,
        recipe=json.dumps(job.recipe) if recipe is None else recipe.short,
        parameters=_parameters(job) if recipe is None else recipe.parameters,
        evaluation=responses.Evaluation(**job.evaluation),
        gate=[results.condition_object(condition) for condition in job.gate],
        verdict=results.verdict_of(job),
        benchmark=None if job.benchmark is None else speed.BenchmarkWanted(**job.benchmark),
        priority=job.priority,
        metadata=job.metadata,
        labels=job.labels,
        retry_of=job.retry_of,
        sweep=job.sweep_id,
        max_runtime_seconds=job.max_runtime_seconds,
        max_pending_seconds=job.max_pending_seconds,
        max_attempts=job.max_attempts,
        wait_for_capacity=job.wait_for_capacity,
        publish_to=job.publish_to,
        published=results.facts_of(results.done_steps(job).get("publish")).get("published_to") is not None,
        waits_for=list(waits_for or ()),
        error=error_object(job.error),
        steps=[step_object(step) for step in job.steps],
        result=results.result_of(job, None if waits_for is None else recipe),
    )


def step_object(step: ShownStep) -> responses.Step:
    """Return one step; its progress only while it runs."""
    progress = step.progress if step.status == StepStatus.RUNNING else None
    return responses.Step(
        id=step.id,
        kind=step.kind,
        status=step.status,
        pool=step.pool,
        attempt=step.attempt,
        reused=step.reused,
        progress=None if progress is None else responses.Progress(**progress),
        started_at=step.started_at,
        finished_at=step.finished_at,
        error=error_object(step.error),
    )


def event_object(event: Event) -> responses.Event:
    """Return one event."""
    return responses.Event(
        id=event.number,
        created_at=event.created_at,
        level=event.level,
        type=event.type,
        message=event.message,
        data=event.data,
    )


def log_object(step: Step, chunk: LogChunk) -> responses.LogChunk:
    """Return one piece of a step's log."""
    return responses.LogChunk(
        id=chunk.id, step=step.kind, attempt=chunk.attempt, created_at=chunk.created_at, text=chunk.text
    )


def metric_object(step: Step, metric: Metric) -> responses.Metric:
    """Return what a step measured of one module."""
    return responses.Metric(
        id=metric.id,
        step=step.kind,
        attempt=metric.attempt,
        layer=metric.layer,
        module=metric.module,
        values=metric.values,
        created_at=metric.created_at,
    )


def attempt_object(step: Step, attempt: Attempt) -> responses.Attempt:
    """Return one attempt of a step."""
    return responses.Attempt(
        step=step.kind,
        number=attempt.number,
        host=attempt.host,
        device=attempt.device,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        outcome=None if attempt.outcome is None else AttemptOutcome(attempt.outcome),
        error=error_object(attempt.error),
        forecast_memory_bytes=attempt.forecast_memory_bytes,
        forecast_vram_bytes=attempt.forecast_vram_bytes,
        forecast_scratch_bytes=attempt.forecast_scratch_bytes,
        peak_memory_bytes=attempt.peak_memory_bytes,
        peak_vram_bytes=attempt.peak_vram_bytes,
        peak_scratch_bytes=attempt.peak_scratch_bytes,
    )


def model_sizes(model: ModelFacts) -> responses.ModelSizes:
    """Return what the headers of a model say."""
    return responses.ModelSizes(
        architecture=model.architecture,
        parameter_count=model.parameter_count,
        size_bytes=model.weight_bytes,
        dtype=model.dtype,
        layer_count=model.layer_count,
    )


def quota_object(share: Share) -> responses.Quota:
    """Return one of a team's limits."""
    return responses.Quota(name=share.name, used=share.used, maximum=share.maximum)


def artifact_object(artifact: Artifact) -> responses.Artifact:
    """Return an artifact with its files."""
    return responses.Artifact(
        id=artifact.id,
        created_at=artifact.created_at,
        format=artifact.format,
        digest=f"sha256:{artifact.digest}",
        size_bytes=artifact.size_bytes,
        files=[
            responses.ArtifactFile(name=file.name, size_bytes=file.size_bytes, sha256=file.sha256)
            for file in artifact.files
        ],
    )


def dataset_object(dataset: Dataset) -> responses.Dataset:
    """Return a dataset."""
    return responses.Dataset(
        id=dataset.id,
        created_at=dataset.created_at,
        name=dataset.name,
        kind=DatasetKind(dataset.kind),
        sha256=dataset.sha256,
        size_bytes=dataset.size_bytes,
        documents=dataset.document_count,
    )


def method_object(method: Method) -> responses.Method:
    """Return a method with the JSON Schema of its parameters."""
    default = parse_recipe(method.name)
    return responses.Method(
        name=method.name,
        summary=method.summary,
        pool=method.pool,
        engine=method.engine(default.params),
        format=method.writes(default.params),
        needs_calibration="samples" in method.material(default.params),
        default=default.short,
        presets=[_preset(method, preset) for preset in method.presets],
        parameters=method.schema(),
    )


def _preset(method: Method, preset: Preset) -> responses.Preset:
    name, params = preset_recipe(method, preset)
    return responses.Preset(recipe=name, parameters=params.model_dump(mode="json"), why=preset.why)


def _recipe(job: ShownJob) -> Recipe | None:
    """Return the recipe; None where the method does not know its parameters any more."""
    try:
        return parse_recipe(job.recipe)
    except RequestError:
        return None


def _parameters(job: ShownJob) -> dict[str, Any]:
    return {name: value for name, value in job.recipe.items() if name != "method"}


def error_object(document: Mapping[str, Any] | None) -> responses.JobError | None:
    """Return what a stored error says; None of none."""
    if document is None:
        return None
    return responses.JobError(code=document["code"], message=document["message"], param=document.get("param"))
