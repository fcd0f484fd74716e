"""A request thought through to its plan, and all that speaks against it, before anything is written down.

Refuses to know: whether it will be submitted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from api.gating import TaskAtLeast, TaskAtMost
from api.quotas import default_quotas
from api.requests import JobRequest
from api.services import services
from core.dataset_kinds import FOR_TASKS, DatasetKind, listed
from core.errors import InvalidRequest, NoCapacity, RequestError
from core.ids import TeamId
from core.settings import Settings
from db import datasets, quotas
from db.jobs import PlannedStep
from db.tables import Dataset
from engines import families
from engines.datasets import form_of, is_own
from engines.methods.base import CalibratedParams
from engines.model_facts import ModelFacts
from engines.recipe import Recipe, parse_recipe
from pipeline.benchmark import wanted as benchmark_wanted
from pipeline.destinations import check_destination
from pipeline.foresight import ForeseenStep, beyond_all_workers, foresee
from pipeline.judging import gate_warnings
from pipeline.plan import plan
from pipeline.precheck import Seen, look_at, require_fit
from pipeline.sources import check_source

OF_REFERENCE = ("rouge_l", "rouge_l_drop")
WHAT_TO_DO = (
    "Ask your operator for such a worker, choose a smaller model or, where a recipe has them, fewer samples; "
    "or set wait_for_capacity, and the job waits for one."
)


@dataclass(frozen=True)
class Considered:
    """What a request comes to.

    Attributes:
        source: where the model is, as it is stored.
        publish_to: where the result goes, likewise.
        recipe: what is made.
        model: what is known of the source; None where it cannot be seen from here.
        steps: the plan.
        foreseen: each step with what it will need.
        beyond: the kinds of steps that no worker could run, each with the reason.
        warnings: what is to be told of the job, should it be submitted.
        misfits: why the recipe does not go with this model or these workers; empty if it does.
        refusals: why it would not be taken, these included; empty if it would.
    """

    source: str
    publish_to: str | None
    recipe: Recipe
    model: ModelFacts | None
    steps: tuple[PlannedStep, ...]
    foreseen: Sequence[ForeseenStep]
    beyond: Mapping[str, str]
    warnings: tuple[str, ...]
    misfits: tuple[RequestError, ...]
    refusals: tuple[RequestError, ...]


def consider(session: Session, team_id: TeamId, wanted: JobRequest, *, asks_for_place: bool = True) -> Considered:
    """Return what a request comes to.

    Args:
        session: the caller's transaction.
        team_id: who asks.
        wanted: the request.
        asks_for_place: whether the team's quota for queued jobs speaks against it, too; not where the caller asks for
            several places at once.

    Raises:
        RequestError: there is nothing to plan: the recipe, the source, its text or the destination is not one that this
            service takes.
    """
    settings = services().settings
    recipe = parse_recipe(wanted.recipe)
    source = check_source(wanted.source, settings.source_roots)
    publish_to = wanted.publish_to and check_destination(wanted.publish_to, settings.publish_roots)
    benchmark = None if wanted.benchmark is None else wanted.benchmark.model_dump()
    own_text = _own_text(session, team_id, recipe)
    own = _own_datasets(session, team_id, wanted, settings)
    judging = _judging(wanted, own, settings)
    steps = plan(recipe, judging, publish_to, own_text, benchmark)
    seen = look_at(source, settings.source_roots)
    model = None if seen is None else seen.facts
    foreseen = foresee(steps, model)
    beyond = beyond_all_workers(session, foreseen)
    warnings = recipe.warnings + (families.warnings(recipe.tried_as, model) if model else ())
    if beyond and wanted.wait_for_capacity:
        warnings += (f"{next(iter(beyond.values()))} The job waits for one.",)
    limit = settings.attempts_limit
    refusals = _refusals(
        lambda: _check_gate(wanted),
        lambda: _check_gate_of_tasks(wanted, judging["datasets"]),
        lambda: _check_attempts(wanted.max_attempts, limit),
    )
    if not refusals:
        own_items = {name: one.document_count for name, one in own.items() if one.kind != DatasetKind.TEXT}
        warnings += tuple(gate_warnings(judging, own_items))
    misfits = _refusals(
        lambda: _check_fit(recipe, seen),
        lambda: _check_benchmark(benchmark, model),
        lambda: _check_capacity(beyond, wait=wanted.wait_for_capacity),
    )
    refusals += misfits
    if asks_for_place:  # last, since it may lock until the transaction ends
        refusals += _refusals(lambda: quotas.require_place(session, team_id, default_quotas(settings)))
    return Considered(
        source=source,
        publish_to=publish_to,
        recipe=recipe,
        model=model,
        steps=steps,
        foreseen=foreseen,
        beyond=beyond,
        warnings=warnings,
        misfits=misfits,
        refusals=refusals,
    )


def _refusals(*checks: Callable[[], object]) -> tuple[RequestError, ...]:
    refusals = []
    for check in checks:
        try:
            check()
        except RequestError as error:
            refusals.append(error)
    return tuple(refusals)


def _own_datasets(session: Session, team_id: TeamId, wanted: JobRequest, settings: Settings) -> Mapping[str, Dataset]:
    """Return the team's own datasets among domains and tasks.

    Raises:
        InvalidRequest: a domain is no dataset of the team, or of a kind on which perplexity cannot be measured; a task
            is none, or cannot be one, or asks for programs to be run, which the operator has not allowed.
    """
    return {
        name: datasets.require_for_job(session, team_id, name, datasets.judged_on(index))
        for index, name in enumerate(wanted.evaluation.domains)
        if is_own(name)
    } | {name: _task(session, team_id, name, index, settings) for index, name in enumerate(wanted.evaluation.tasks)}


def _judging(wanted: JobRequest, own: Mapping[str, Dataset], settings: Settings) -> Mapping[str, Any]:
    """Return how a result is judged, as the plan has to know it."""
    return {
        **wanted.evaluation.model_dump(),
        "datasets": {
            name: {"kind": one.kind, "sha256": one.sha256, "size_bytes": one.size_bytes} for name, one in own.items()
        },
        "gate": [condition.model_dump() for condition in wanted.gate],
        "reference_bytes_max": settings.reference_bytes_max,
    }


def _task(session: Session, team_id: TeamId, name: str, index: int, settings: Settings) -> Dataset:
    use = datasets.task(index)
    found = datasets.require_for_job(session, team_id, name, use)
    if found.kind == DatasetKind.CODE and not settings.code_execution:
        raise InvalidRequest(
            f"The dataset {name} is of kind {DatasetKind.CODE}: to judge by it, programs that a model has written are "
            "run. Your operator allows that by FEWBITS_CODE_EXECUTION.",
            param=use.param,
        )
    return found


def _check_gate(wanted: JobRequest) -> None:
    for index, condition in enumerate(wanted.gate):
        if isinstance(condition, TaskAtMost | TaskAtLeast):
            continue
        if condition.domain is not None and condition.domain not in wanted.evaluation.domains:
            raise InvalidRequest(
                f"The text {condition.domain!r} is not judged on. Name one of evaluation.domains, or add it there.",
                param=f"gate.{index}.domain",
            )


def _check_gate_of_tasks(wanted: JobRequest, own: Mapping[str, Mapping[str, Any]]) -> None:
    tasks = wanted.evaluation.tasks
    for index, condition in enumerate(wanted.gate):
        if not isinstance(condition, TaskAtMost | TaskAtLeast):
            continue
        if condition.task is not None and condition.task not in tasks:
            raise InvalidRequest(
                f"{condition.task!r} is no task that is judged by. Name one of evaluation.tasks, or add it there.",
                param=f"gate.{index}.task",
            )
        named = tasks if condition.task is None else [condition.task]
        if condition.metric in OF_REFERENCE and not any(own[task]["kind"] == DatasetKind.REFERENCE for task in named):
            raise InvalidRequest(
                f"{condition.metric} is measured on datasets of kind {DatasetKind.REFERENCE} alone. Name one of these "
                "in evaluation.tasks, or ask for accuracy or accuracy_drop.",
                param=f"gate.{index}.{'metric' if condition.task is None else 'task'}",
            )
        if not tasks:
            raise InvalidRequest(
                f"{condition.metric} is measured on tasks, and none is asked for. Name datasets of kind "
                f"{listed(FOR_TASKS)} in evaluation.tasks.",
                param=f"gate.{index}.metric",
            )


def _check_fit(recipe: Recipe, seen: Seen | None) -> None:
    if seen is not None:
        require_fit(recipe, seen)


def _check_benchmark(benchmark: Mapping[str, Any] | None, model: ModelFacts | None) -> None:
    if benchmark is not None:
        benchmark_wanted(benchmark).check(model)


def _check_capacity(beyond: Mapping[str, str], *, wait: bool) -> None:
    if beyond and not wait:
        raise NoCapacity(f"{next(iter(beyond.values()))} {WHAT_TO_DO}", param="recipe")


def _own_text(session: Session, team_id: TeamId, recipe: Recipe) -> Mapping[str, Any] | None:
    """Return what the plan has to know of the dataset, where the recipe names one.

    Raises:
        InvalidRequest: the team has none of that id, or it is of a kind that no method looks at.
    """
    params = recipe.params
    if not isinstance(params, CalibratedParams) or not is_own(params.calibration_text):
        return None
    dataset = datasets.require_for_job(session, team_id, params.calibration_text, datasets.CALIBRATION)
    return {
        "text_sha256": dataset.sha256,
        "text_format": form_of(DatasetKind(dataset.kind)),
        "text_bytes": dataset.size_bytes,
    }


def _check_attempts(wanted: int | None, limit: int) -> None:
    if wanted is not None and wanted > limit:
        raise InvalidRequest(
            f"A job may ask for {limit} attempts at most. Your operator sets this limit, by FEWBITS_ATTEMPTS_LIMIT.",
            param="max_attempts",
        )
