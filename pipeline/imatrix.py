"""``imatrix``: how much each column of the converted model matters for the samples of text."""

from collections.abc import Mapping
from typing import Any

from engines import imatrix, llama_cpp
from engines.methods.base import Forecast
from pipeline.step_kind import Facts, Outcome, Output, StepContext, StepKind, model_facts


class Imatrix(StepKind):
    """Done once for all the types that are weighed by the same samples."""

    name = "imatrix"
    version = 2

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return llama.cpp's version."""
        return llama_cpp.VERSION

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return what the tool needs for a model of this size and samples of this length."""
        return imatrix.forecast(model_facts(facts), facts["calibrate"]["tokens"])

    def output(self, params: Mapping[str, Any]) -> Output:
        """Return that the file is read by later steps only."""
        return Output(role="intermediate", format="imatrix")

    def run(self, context: StepContext) -> Outcome:
        """Run the converted model over the samples."""
        facts = imatrix.write_imatrix(context.engine, context.inputs["convert"], context.inputs["calibrate"])
        return Outcome(facts, warnings=facts["warnings"])
