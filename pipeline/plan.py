"""From a recipe to the steps of a job."""

from collections.abc import Mapping
from typing import Any

from db.jobs import PlannedStep
from engines.recipe import Recipe


def plan(recipe: Recipe, evaluation: Mapping[str, Any], publish_to: str | None = None) -> tuple[PlannedStep, ...]:
    """Return the steps that a recipe, its evaluation and its publishing take, in the order in which they are shown.

    Args:
        recipe: what to make.
        evaluation: ``domains`` and ``windows``, as in the request.
        publish_to: where the result goes, once it is verified and judged; None where it stays in the store alone.
    """
    method = recipe.method
    made_from = ("fetch", "convert") if method.reads == "gguf" else ("fetch",)
    wanted = {"recipe": recipe.document()}
    judged = dict(evaluation)
    result_pool = "cpu" if method.writes == "gguf" else "gpu"
    steps = [PlannedStep("fetch", "cpu", (), {})]
    if method.reads == "gguf":
        steps.append(PlannedStep("convert", "cpu", ("fetch",), {}))
    steps += [
        PlannedStep("quantize", method.pool, made_from, wanted),
        PlannedStep("reference", "gpu", ("fetch",), judged),
        PlannedStep("verify", result_pool, (*made_from, "quantize", "reference"), wanted),
        PlannedStep("evaluate", result_pool, ("fetch", "quantize", "verify"), {**judged, "format": method.writes}),
    ]
    if publish_to is not None:
        steps.append(PlannedStep("publish", "cpu", ("quantize", "verify", "evaluate"), {"to": publish_to}))
    return tuple(steps)
