"""From a recipe to the steps of a job."""

from collections.abc import Mapping
from typing import Any

from db.jobs import PlannedStep
from engines.recipe import Recipe


def plan(recipe: Recipe, evaluation: Mapping[str, Any]) -> tuple[PlannedStep, ...]:
    """Return the steps that a recipe and its evaluation take, in the order in which they are shown.

    Args:
        recipe: what to make.
        evaluation: ``domains`` and ``windows``, as in the request.
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
    return tuple(steps)
