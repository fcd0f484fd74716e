"""``fetch``: copy a source's model files, once they are known to be a complete, safe model, into a snapshot."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.errors import SourceInvalid
from core.steps import UnboundStep
from engines import families, source
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from engines.source_card import CARD_NAME, SourceCard, read_card
from pipeline.copying import copy_files
from pipeline.sources import local_folder
from pipeline.step_kind import MIB, Facts, Outcome, Output, StepContext, StepKind

NOT_CARRIED = "the result's card names no licence. Add it before you publish."


class Fetch(StepKind):
    """A local folder is read anew for each job, since nothing says whether it has changed; once for all of a sweep."""

    name = "fetch"
    version = 1

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return that the work is our own."""
        return "fewbits"

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return a small need, of transformers: the size is known only when the folder is read, and is checked then."""
        return Forecast(memory_bytes=512 * MIB, scratch_bytes=0)

    def expect(self, params: Mapping[str, Any], model: ModelFacts) -> Mapping[str, Any]:
        """Return what is known of the model already."""
        return {"model": dataclasses.asdict(model)}

    def output(self, params: Mapping[str, Any]) -> Output:
        """Return that the files are the snapshot."""
        return Output(role="snapshot", format="safetensors")

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return the source, and for what it is fetched: what a sweep compares is made of one snapshot."""
        asked_by = {"job": step.job_id} if step.sweep_id is None else {"sweep": step.sweep_id}
        return {"source": step.source, **asked_by}

    def run(self, context: StepContext) -> Outcome:
        """Check the folder, then copy its model files.

        Raises:
            ModelUnsupported: transformers does not know the architecture.
        """
        folder = local_folder(context.params["source"], context.source_roots)
        facts = source.inspect(folder, context.source_roots)
        families.require_known(folder, facts)
        files = {name: folder / name for name in source.model_files(folder, context.source_roots)}
        output = context.engine.output
        copy_files(files, output, context.engine, what="model", disk="worker's scratch disk")
        # Read again what was copied: the folder may have changed under our hands.
        if source.inspect(output) != facts:
            raise SourceInvalid("The source changed while it was being read. Submit the job again.")
        card = read_card(output)
        warnings = (
            [] if card is not None else [f"The metadata in the source's {CARD_NAME} cannot be read: {NOT_CARRIED}"]
        )
        said = dataclasses.asdict(card or SourceCard())
        return Outcome(facts={"model": dataclasses.asdict(facts), "card": said}, warnings=warnings)
