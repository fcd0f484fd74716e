"""``verify``: prove a result before anyone may have it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.errors import VerificationFailed
from engines import evaluation_needs, probe, runtimes, verification
from engines.methods.base import Forecast
from engines.recipe import parse_recipe
from engines.verification import Check
from engines.verification.subject import Subject
from pipeline.step_kind import Facts, Outcome, StepContext, StepKind, model_facts

VERIFIED = "quantize"  # the step whose artifact is looked at


class Verify(StepKind):
    """Stands between the result and everything that is done with it."""

    name = "verify"
    version = 3

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the version of the library that runs the result."""
        recipe = parse_recipe(params["recipe"])
        return runtimes.ENGINES[recipe.method.writes(recipe.params)]

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return what the result needs to be run, with one tensor of the source beside it."""
        recipe = parse_recipe(params["recipe"])
        written = recipe.method.writes(recipe.params)
        return evaluation_needs.forecast_result(model_facts(facts), written, facts[VERIFIED]["size_bytes"])

    def run(self, context: StepContext) -> Outcome:
        """Look at everything, print it, and let the result pass only if all is well."""
        recipe = parse_recipe(context.params["recipe"])
        subject = Subject(
            written=recipe.method.writes(recipe.params),
            result=context.inputs[VERIFIED],
            source=context.inputs["fetch"],
            lossless=context.inputs.get("convert"),
            promises=recipe.method.promises(recipe.params),
        )
        full_precision = probe.read(context.inputs["reference"], subject.source)
        found = verification.verify(context.engine, subject, full_precision)
        for check in found.checks:
            print(_line(check), flush=True)  # noqa: T201 - the log of a step is what it prints
        failed = [check for check in found.checks if not check.passed]
        if failed:
            said = " ".join(f"{check.name}: {check.detail}" for check in failed)
            raise VerificationFailed(f"The result is not what it must be, and was not published. {said}")
        return Outcome(
            facts={
                "checks": [dataclasses.asdict(check) for check in found.checks],
                "generations": [dataclasses.asdict(one) for one in found.generations],
            }
        )


def _line(check: Check) -> str:
    return f"{'passed' if check.passed else 'FAILED'} {check.name}: {check.detail}"
