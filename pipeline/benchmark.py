"""``benchmark``: how fast a result is on the machine that runs it, and what it takes, with nothing else going on there.

The work is a job's own. Which machine does it is known only once it is claimed, and what another has measured for
another job would not be this one's speed (decision 0027).
"""

from collections.abc import Mapping
from typing import Any

from core.steps import UnboundStep
from engines import benchmark, runtimes
from engines.benchmark import Wanted
from engines.methods.base import Forecast
from pipeline.step_kind import Facts, Outcome, StepContext, StepKind, input_facts, model_facts

MEASURED = "quantize"  # the step whose artifact is run


class Benchmark(StepKind):
    """Measures what nobody else may disturb."""

    name = "benchmark"
    version = 1
    is_exclusive = True

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the version of the library that runs the result."""
        return runtimes.ENGINES[params["format"]]

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return what the result needs at the longest context and the largest batch."""
        size_bytes = facts[MEASURED]["size_bytes"]
        return benchmark.forecast(model_facts(facts), params["format"], size_bytes, wanted(params))

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return what is measured, and the job for which it is.

        Raises:
            InvalidRequest: the model cannot read that many tokens.
        """
        wanted(step.params).check(model_facts(input_facts(step)))
        return {**step.params, "job": step.job_id}

    def run(self, context: StepContext) -> Outcome:
        """Measure the result."""
        measured = benchmark.measure(
            context.params["format"], context.inputs[MEASURED], context.engine, wanted(context.params)
        )
        return Outcome(facts={"device": context.engine.device, **measured})


def wanted(params: Mapping[str, Any]) -> Wanted:
    """Return what is to be measured, of a request or of a step's parameters."""
    return Wanted(**{name: params[name] for name in Wanted.__dataclass_fields__})
