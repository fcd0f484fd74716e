"""``reference``: what full precision answers, in float32, once for all that is compared with it."""

from collections.abc import Mapping
from typing import Any

from core.steps import UnboundStep
from engines import evaluation, probe, runtimes
from engines.methods.base import Forecast
from pipeline.judging import judge, judged
from pipeline.step_kind import Facts, Outcome, Output, StepContext, StepKind, model_facts


class Reference(StepKind):
    """The baseline of every report, and the answers that a result is verified against."""

    name = "reference"
    version = 2

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the version of the library that runs the source."""
        return runtimes.ENGINES["safetensors"]

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return what the source needs in float32."""
        return evaluation.forecast_reference(model_facts(facts))

    def output(self, params: Mapping[str, Any]) -> Output:
        """Return that the answers are read by later steps only."""
        return Output(role="intermediate", format="probe")

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return what is judged, and on which texts."""
        return judged(step)

    def run(self, context: StepContext) -> Outcome:
        """Score the snapshot, and put the probe's questions to it."""
        source = context.inputs["fetch"]
        with runtimes.open_runtime("safetensors", source, context.engine) as runtime:
            outcome = judge(context, runtime)
            probe.write(probe.ask(runtime, source), context.engine.output)
        return outcome
