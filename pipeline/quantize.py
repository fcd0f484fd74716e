"""``quantize``: run the recipe's method."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import ToolFailed
from core.steps import UnboundStep
from engines.context import EngineContext, Measurement
from engines.machine import hardware, library_versions
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from engines.peaks import held_bytes
from engines.recipe import parse_recipe
from pipeline.material import MADE_BY
from pipeline.provenance import CARD_NAME, PROVENANCE_NAME, REPORT_NAME
from pipeline.step_kind import Facts, Outcome, Output, StepContext, StepKind, input_facts, model_facts

LOSSES = "losses"  # among the facts: as many as modules, so lists of jobs are read without (``db/shown.py``)


class Quantize(StepKind):
    """The result is the job's artifact."""

    name = "quantize"
    version = 2

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the version of the method's library."""
        recipe = parse_recipe(params["recipe"])
        return recipe.method.engine(recipe.params)

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return the method's own forecast."""
        recipe = parse_recipe(params["recipe"])
        return recipe.method.forecast(model_facts(facts), recipe.params)

    def expect(self, params: Mapping[str, Any], model: ModelFacts) -> Mapping[str, Any]:
        """Return the size of the result."""
        recipe = parse_recipe(params["recipe"])
        return {"size_bytes": recipe.method.result_bytes(model, recipe.params)}

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return the recipe, once its method is known to take this model with these parameters."""
        recipe = parse_recipe(step.params["recipe"])
        recipe.check(model_facts(input_facts(step)))
        return step.params

    def output(self, params: Mapping[str, Any]) -> Output:
        """Return that the files are the result, in the method's format."""
        recipe = parse_recipe(params["recipe"])
        return Output(role="result", format=recipe.method.writes(recipe.params))

    def run(self, context: StepContext) -> Outcome:
        """Quantize what the method reads, and keep with the facts what the result's provenance will say of it.

        Raises:
            ToolFailed: the method has taken the name of a file that comes beside every result.
        """
        recipe = parse_recipe(context.params["recipe"])
        material = {name: context.inputs[MADE_BY[name]] for name in recipe.method.material(recipe.params)}
        losses = _Losses(context.engine.measure)
        began = time.monotonic()
        engine = dataclasses.replace(context.engine, measure=losses.hear, recall=losses.keep)
        facts = recipe.method.quantize(engine, material, recipe.params)
        _require_free_names(engine)
        made_with = {
            "engine": recipe.method.engine(recipe.params),
            "libraries": library_versions(),
            "hardware": hardware(engine.device),
            LOSSES: losses.latest(),
            "engine_seconds": round(time.monotonic() - began, 3),
        }
        return Outcome(facts={**facts, "device": engine.device, **made_with})


class _Losses:
    """Passes measurements on, with the memory that is held then, and keeps the last loss of each module."""

    def __init__(self, pass_on: Callable[[Measurement], None]) -> None:
        self._pass_on = pass_on
        self._losses: dict[tuple[int, str], float] = {}

    def hear(self, measured: Measurement) -> None:
        self._pass_on(dataclasses.replace(measured, values={**measured.values, **held_bytes()}))
        self.keep(measured)

    def keep(self, measured: Measurement) -> None:
        if "loss" in measured.values:
            self._losses[measured.layer, measured.module] = measured.values["loss"]

    def latest(self) -> list[dict[str, Any]]:
        ordered = sorted(self._losses.items())
        return [{"layer": layer, "module": module, "loss": loss} for (layer, module), loss in ordered]


def _require_free_names(engine: EngineContext) -> None:
    for name in (PROVENANCE_NAME, CARD_NAME, REPORT_NAME):
        if (engine.output / name).exists():
            raise ToolFailed(
                f"The method has written a file {name}, which is the name of one that describes the result."
            )
