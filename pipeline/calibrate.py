"""``calibrate``: the samples of text that a method will look at, checked before any GPU is asked for."""

from collections.abc import Mapping
from typing import Any

from core.steps import UnboundStep
from engines import calibration, tokenizer
from engines.calibration import Calibration, OwnText
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from pipeline.judging import dataset_inputs, digests, read_first
from pipeline.step_kind import MIB, Facts, Outcome, Output, StepContext, StepKind

TEXT = "text"  # what the step calls a team's own text, which it reads
OWN = "own"  # the name of every such text in what the work is told: its bytes count, and not its id
PROCESS_BYTES = 1024 * MIB  # transformers, a large tokenizer and its encoding of a text
OWN_TEXT_BYTES = 32  # for each byte of a team's own text: its characters, its ids, and those packed


class Calibrate(StepKind):
    """Done once for all the recipes that look at the same samples."""

    name = "calibrate"
    version = 4

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the library that tokenizes."""
        return tokenizer.TRANSFORMERS

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return what the tokenizer needs, and the samples."""
        size_bytes = 64 * params["samples"] * params["tokens"]  # ids a few times over, their text, hashes of runs
        size_bytes += OWN_TEXT_BYTES * params.get("text_bytes", 0)
        return Forecast(memory_bytes=PROCESS_BYTES + size_bytes, scratch_bytes=MIB + size_bytes)

    def expect(self, params: Mapping[str, Any], model: ModelFacts) -> Mapping[str, Any]:
        """Return the length of a sample."""
        return {"tokens": params["tokens"]}

    def output(self, params: Mapping[str, Any]) -> Output:
        """Return that the files are read by later steps only."""
        return Output(role="intermediate", format="samples")

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return what is asked for, with the texts themselves: another text gives other samples."""
        params = step.params
        texts = digests(params)
        if "text_sha256" in params:
            return {**params, "text": OWN, "texts": texts}
        return {**params, "text_sha256": calibration.text_digest(params["text"]), "texts": texts}

    def further_inputs(self, params: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the team's own text, where it is one, and its own datasets that are judged on."""
        text = {TEXT: params["text"]} if "text_sha256" in params else {}
        return {**dataset_inputs(params), **text}

    def run(self, context: StepContext) -> Outcome:
        """Draw the samples and look at them beside the text that the result will be judged on."""
        params, source = context.params, context.inputs["fetch"]
        wanted = Calibration(*(params[name] for name in ("text", "samples", "tokens", "seed")))
        items = read_first(context, params["windows"])
        judged = {domain: [item.ids for item in of_domain] for domain, of_domain in items.items()}
        facts = calibration.write_samples(context.engine.output, source, wanted, judged, _own(context))
        return Outcome(facts, warnings=facts["warnings"])


def _own(context: StepContext) -> OwnText | None:
    if TEXT not in context.inputs:
        return None
    (path,) = context.inputs[TEXT].iterdir()
    return OwnText(path, context.params["text_format"], context.params["text_sha256"])
