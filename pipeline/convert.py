"""``convert``: the snapshot as one lossless GGUF file, from which every GGUF type is quantized."""

from collections.abc import Mapping
from typing import Any

from engines import convert, llama_cpp
from engines.methods.base import Forecast
from pipeline.step_kind import Facts, Outcome, Output, StepContext, StepKind, model_facts


class Convert(StepKind):
    """Done once for all the types wanted of a snapshot."""

    name = "convert"
    version = 2

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the converter's version."""
        return llama_cpp.VERSION

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return what the converter needs for a model of this size."""
        return convert.forecast(model_facts(facts))

    def output(self, params: Mapping[str, Any]) -> Output:
        """Return that the file is read by later steps only."""
        return Output(role="intermediate", format="gguf")

    def run(self, context: StepContext) -> Outcome:
        """Convert the snapshot."""
        facts = convert.convert(context.engine, context.inputs["fetch"], context.params.get("pre_tokenizer"))
        differs_at = facts["tokenizer_differs_at"]
        if differs_at is None:
            return Outcome(facts)
        warning = f"llama.cpp's tokenizer gives other ids than the source's for some text, such as {differs_at!r}."
        return Outcome(facts, warnings=[warning])
