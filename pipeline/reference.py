"""``reference``: judge the source itself, in float32, once for all that is compared with it."""

from collections.abc import Mapping
from typing import Any

from db.bind import UnboundStep
from engines import evaluation, runtimes
from engines.methods.base import Forecast
from pipeline.judging import judge, judged
from pipeline.step_kind import Outcome, StepContext, StepKind, model_facts


class Reference(StepKind):
    """The baseline of every report."""

    name = "reference"
    version = 1

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the version of the library that runs the source."""
        return runtimes.ENGINES["safetensors"]

    def forecast(self, step: UnboundStep) -> Forecast:
        """Return what the source needs in float32."""
        return evaluation.forecast_reference(model_facts(step))

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return what is judged, and on which texts."""
        return judged(step)

    def run(self, context: StepContext) -> Outcome:
        """Score the snapshot."""
        return judge(context, context.inputs["fetch"], "safetensors")
