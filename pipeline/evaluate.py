"""``evaluate``: judge a result, by the same windows as its reference."""

from collections.abc import Mapping
from typing import Any

from core.steps import UnboundStep
from engines import evaluation, runtimes
from engines.methods.base import Forecast
from pipeline.judging import judge, judged
from pipeline.step_kind import Facts, Outcome, StepContext, StepKind, model_facts


class Evaluate(StepKind):
    """The measured half of a report."""

    name = "evaluate"
    version = 1

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the version of the library that runs the result."""
        return runtimes.ENGINES[params["format"]]

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return what the result needs."""
        return evaluation.forecast_result(model_facts(facts), params["format"], facts["quantize"]["size_bytes"])

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return what is judged, and on which texts."""
        return judged(step)

    def run(self, context: StepContext) -> Outcome:
        """Score the result."""
        written = context.params["format"]
        with runtimes.open_runtime(written, context.inputs["quantize"], context.engine) as runtime:
            return judge(context, runtime)
