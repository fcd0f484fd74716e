"""``quantize``: run the recipe's method."""

import time
from collections.abc import Mapping
from typing import Any

from core.steps import UnboundStep
from engines.gpu import peak_vram_bytes
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from engines.recipe import parse_recipe
from pipeline.material import MADE_BY
from pipeline.step_kind import Facts, Outcome, Output, StepContext, StepKind, input_facts, model_facts


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
        """Quantize what the method reads."""
        recipe = parse_recipe(context.params["recipe"])
        material = {name: context.inputs[MADE_BY[name]] for name in recipe.method.material(recipe.params)}
        began = time.monotonic()
        facts = recipe.method.quantize(context.engine, material, recipe.params)
        spent = {"engine_seconds": round(time.monotonic() - began, 3), "peak_vram_bytes": peak_vram_bytes()}
        return Outcome(facts={**facts, "device": context.engine.device, **spent})
