"""``reference``: what full precision answers, in float32, once for all that is compared with it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from core.steps import UnboundStep
from engines import evaluation, evaluation_needs, probe, runtimes, score_files
from engines.methods.base import Forecast
from engines.tasks import ACCURACY
from pipeline.judging import dataset_inputs, engine, judged, longest, own_items, read, rows, too_short
from pipeline.step_kind import Facts, Outcome, Output, StepContext, StepKind, model_facts


class Reference(StepKind):
    """The baseline of every report, and the answers that a result is verified against and compared with."""

    name = "reference"
    version = 4

    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the version of the library that runs the source."""
        return engine("safetensors", params)

    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return what the source needs in float32, and the room of its answers."""
        model, each = model_facts(facts), params["windows"]
        others = len(own_items(params))
        windows = len(params["domains"]) - others
        kept = evaluation_needs.forecast_logits(model, windows * each, others * each, _limit(params))
        return evaluation_needs.forecast_reference(model, kept, longest(params))

    def output(self, params: Mapping[str, Any]) -> Output:
        """Return that the answers are read by later steps only."""
        return Output(role="intermediate", format="probe")

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return what is judged, and on which texts."""
        return judged(step)

    def further_inputs(self, params: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the team's own datasets that are judged on."""
        return dataset_inputs(params)

    def run(self, context: StepContext) -> Outcome:
        """Score the snapshot, and put the probe's questions to it."""
        source = context.inputs["fetch"]
        asked, window_tokens = read(context), longest(context.params)
        with runtimes.open_runtime("safetensors", source, context.engine, window_tokens) as runtime:
            scores = evaluation.score_reference(runtime, asked, context.engine, _limit(context.params))
            probe.write(probe.ask(runtime, probe.read_windows(source)), context.engine.output)
        found, reference = rows(scores), score_files.Reference(context.engine.output)
        warnings = [*too_short(found, context.params["windows"]), *_not_kept(reference), *_nothing_to_lose(reference)]
        tasks = {"tasks": _tasks(reference)} if reference.tasks else {}
        return Outcome({"device": context.engine.device, **tasks}, found, warnings)


def _limit(params: Mapping[str, Any]) -> int:
    """Return how many bytes of answers are kept; plans of earlier versions do not say."""
    limit: int = params.get("reference_bytes_max", evaluation.REFERENCE_BYTES_MAX)
    return limit


def _tasks(reference: score_files.Reference) -> dict[str, Any]:
    """Return what full precision scores in each task, on all items that it was asked."""
    return {
        name: {
            "items": len(scores[ACCURACY]),
            **{metric: math.fsum(scored) / len(scored) for metric, scored in scores.items()},
        }
        for name, scores in reference.tasks.items()
    }


def _nothing_to_lose(reference: score_files.Reference) -> Iterator[str]:
    """Yield a warning for each metric of a task by which full precision scores nothing: no result can do worse."""
    for name, scores in reference.tasks.items():
        for metric, scored in scores.items():
            if not any(scored):
                yield (
                    f"In none of the {len(scored)} items of {name} full precision has any {metric}, so none can be "
                    f"lost, and no gate on {metric}_drop can pass. Bring items that the model can solve."
                )


def _not_kept(reference: score_files.Reference) -> Iterator[str]:
    """Yield a warning for each text of which the answers were too much to keep."""
    for domain, items in reference.scores.items():
        kept = reference.kept(domain)
        if kept < len(items):
            yield (
                f"Of the text {domain!r} KL divergence is measured on {kept} of {len(items)} windows: of more, full "
                "precision's answers are larger than FEWBITS_REFERENCE_BYTES_MAX, which your operator sets, allows."
            )
