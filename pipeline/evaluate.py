"""``evaluate``: judge a result beside full precision, on the same tokens, and by its gate where it has one."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.steps import UnboundStep
from engines import evaluation, evaluation_needs, runtimes
from engines.gates import GateReport
from engines.methods.base import Forecast
from engines.score_files import Reference
from pipeline.judging import asked_of, dataset_inputs, engine, gate_of, judged, longest, rows
from pipeline.step_kind import Facts, Outcome, StepContext, StepKind, model_facts


class Evaluate(StepKind):
    """The measured half of a report."""

    name = "evaluate"
    version = 5

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the version of the library that runs the result."""
        return engine(params["format"], params)

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return what the result needs."""
        model, size_bytes = model_facts(facts), facts["quantize"]["size_bytes"]
        return evaluation_needs.forecast_result(model, params["format"], size_bytes, longest(params))

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return what is judged, and on which texts."""
        return judged(step)

    def further_inputs(self, params: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the team's own datasets that are judged on."""
        return dataset_inputs(params)

    def run(self, context: StepContext) -> Outcome:
        """Score the result, and decide on it."""
        written = context.params["format"]
        # A plan of an earlier version has no reference among what is needed: then there is nothing to compare with.
        reference = Reference(context.inputs.get("reference", context.engine.output))
        asked = asked_of(reference, context)
        result, window_tokens = context.inputs["quantize"], longest(context.params)
        with runtimes.open_runtime(written, result, context.engine, window_tokens) as runtime:
            found = evaluation.score_result(runtime, asked, reference, context.engine, gate_of(context.params))
        decided = {} if found.gate is None else _decided(found.gate)
        tasks = {name: dataclasses.asdict(judged) for name, judged in found.tasks.items()}
        facts = {"device": context.engine.device, "baseline_perplexity": found.baseline, **decided}
        return Outcome({**facts, "tasks": tasks} if tasks else facts, rows(found.scores, found.measures))


def _decided(gate: GateReport) -> dict[str, Any]:
    """Return what became of a gate as it is kept."""
    return {
        "verdict": gate.verdict,
        "looks": gate.look,
        "gate": [
            {
                **dataclasses.asdict(outcome.condition),
                "measured": None if outcome.measured is None else dataclasses.asdict(outcome.measured),
                "decision": outcome.decision,
            }
            for outcome in gate.outcomes
        ],
    }
