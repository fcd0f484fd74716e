"""From a recipe to the steps of a job."""

from collections.abc import Iterator, Mapping
from typing import Any

from db.jobs import PlannedStep
from engines.evaluation import REFERENCE_BYTES_MAX
from engines.recipe import Recipe
from pipeline.judging import most_items
from pipeline.material import MADE_BY, NEEDS

JUDGED_BY = ("fetch", "quantize", "reference")


def plan(
    recipe: Recipe,
    evaluation: Mapping[str, Any],
    publish_to: str | None = None,
    own_text: Mapping[str, Any] | None = None,
    benchmark: Mapping[str, Any] | None = None,
) -> tuple[PlannedStep, ...]:
    """Return the steps that a recipe, its evaluation and its publishing take, in the order in which they are shown.

    Args:
        recipe: what to make.
        evaluation: ``domains``, ``windows``, ``tasks`` and ``task_items``, as in the request; ``kind``, ``sha256`` and
            ``size_bytes`` of those domains and tasks that are ``datasets`` of the team, by id; where there are any, the
            conditions of its ``gate``; and how many bytes of full precision's answers may be kept,
            ``reference_bytes_max``.
        publish_to: where the result goes, once it is verified and judged; None where it stays in the store alone.
        own_text: what ``calibrate`` has to know of the team's text that the recipe names; None where it names none.
        benchmark: what is measured of the result's speed, as in the request; None where nothing is.
    """
    texts = _texts(evaluation)
    judged = {**texts, **_tasks(evaluation)}
    gate = {"gate": [*evaluation["gate"]]} if evaluation.get("gate") else {}
    at_last: dict[str, Any] = {
        name: most_items(judged[name], is_gated=bool(gate)) for name in ("windows", "task_items") if name in judged
    }
    kept = evaluation.get("reference_bytes_max", REFERENCE_BYTES_MAX)
    wanted = {"recipe": recipe.work()}
    written = recipe.method.writes(recipe.params)
    result_pool = "cpu" if written == "gguf" else "gpu"
    # Calibration text is compared with what the result will be judged on.
    making = [*_material(recipe, {**texts, "windows": at_last["windows"], **(own_text or {})})]
    made_from = tuple(MADE_BY[name] for name in recipe.method.material(recipe.params))
    seen = tuple(step.kind for step in making if step.kind in ("fetch", "convert"))
    steps = [
        *making,
        PlannedStep("quantize", recipe.method.pool, tuple(dict.fromkeys(("fetch", *made_from))), wanted),
        PlannedStep("reference", "gpu", ("fetch",), {**judged, **at_last, "reference_bytes_max": kept}),
        PlannedStep("verify", result_pool, (*seen, "quantize", "reference"), wanted),
        PlannedStep("evaluate", result_pool, (*JUDGED_BY, "verify"), {**judged, **gate, "format": written}),
    ]
    if benchmark is not None:
        needs = ("fetch", "quantize", "verify")
        steps.append(PlannedStep("benchmark", result_pool, needs, {**benchmark, "format": written}))
    documented = {**judged, **gate, **wanted, **({} if benchmark is None else {"benchmark": dict(benchmark)})}
    everything = tuple(step.kind for step in steps)
    steps.append(PlannedStep("document", "cpu", everything, documented))
    if publish_to is not None:
        steps.append(PlannedStep("publish", "cpu", ("quantize", "document"), {"to": publish_to}))
    return tuple(steps)


def _texts(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the domains, with those datasets alone that are some."""
    own = {name: one for name, one in evaluation.get("datasets", {}).items() if name in evaluation["domains"]}
    texts = {name: evaluation[name] for name in ("domains", "windows")}
    return {**texts, "datasets": own} if own else texts


def _tasks(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tasks, with all datasets; nothing where there are none."""
    if not evaluation.get("tasks"):
        return {}
    return {name: evaluation[name] for name in ("tasks", "task_items", "datasets")}


def _material(recipe: Recipe, beside_samples: Mapping[str, Any]) -> Iterator[PlannedStep]:
    """Yield the steps that make what a recipe's method reads; the source comes first, whatever it reads."""
    asked = {"snapshot": {}, **recipe.method.material(recipe.params)}
    for name, needs in NEEDS.items():
        if name in asked:
            beside = beside_samples if name == "samples" else {}
            yield PlannedStep(MADE_BY[name], "cpu", needs, {**asked[name], **beside})
