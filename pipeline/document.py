"""``document``: write down where a result comes from and what is known of it, in files that go wherever it goes."""

from collections.abc import Mapping
from typing import Any

from core.steps import UnboundStep
from engines.methods.base import Forecast
from pipeline.model_card import model_card
from pipeline.provenance import CARD_NAME, PROVENANCE_NAME, REPORT_NAME, Provenance
from pipeline.report import job_report
from pipeline.retracing import retrace
from pipeline.step_kind import MIB, Facts, Outcome, Output, StepContext, StepKind


class Document(StepKind):
    """The work's parameters are the provenance itself, so that equal provenance is written once."""

    name = "document"
    version = 2
    reads = "record"

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return that the work is our own."""
        return "fewbits"

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return a small need: three texts are written, and some pictures drawn."""
        return Forecast(memory_bytes=256 * MIB, scratch_bytes=16 * MIB)

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return the provenance of the result, from what is on record of the steps before this one."""
        return retrace(step).model_dump(mode="json")

    def output(self, params: Mapping[str, Any]) -> Output:
        """Return that the files belong to the result."""
        return Output(role="result", format="documents")

    def run(self, context: StepContext) -> Outcome:
        """Write ``fewbits.json``, the model card and the report."""
        provenance = Provenance.model_validate(context.params)
        output = context.engine.output
        (output / PROVENANCE_NAME).write_text(provenance.text(), encoding="utf-8")
        (output / CARD_NAME).write_text(model_card(provenance), encoding="utf-8")
        (output / REPORT_NAME).write_text(job_report(provenance), encoding="utf-8")
        return Outcome(facts={"verdict": provenance.verdict})
