"""What ``reference`` and ``evaluate`` share: which text is read, and how scores become rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from core.dataset_kinds import DatasetKind
from core.steps import EvaluationRow, UnboundStep
from engines import evaluation
from engines.domains import Item, text_digest
from engines.gates import LOOKS, Gate, expand, items_at
from engines.intervals import Estimate
from engines.own_domains import OwnDomain
from engines.scoring import ItemScore
from pipeline.step_kind import StepContext


def judged(step: UnboundStep) -> dict[str, Any]:
    """Return the parameters of the work: with the texts themselves, since another text gives other scores."""
    return {**step.params, "texts": digests(step.params)}


def digests(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of the text of each domain, as the content of a step's work."""
    own = params.get("datasets", {})
    return {name: own[name]["sha256"] if name in own else text_digest(name) for name in params["domains"]}


def dataset_inputs(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the ids of the team's own datasets among the domains, by what the work calls them: the same."""
    return {dataset_id: dataset_id for dataset_id in params.get("datasets", {})}


def most_items(windows: int, *, is_gated: bool) -> int:
    """Return how many items of each text may be looked at: with a gate, those of its last look."""
    return items_at(LOOKS, windows) if is_gated else windows


def gate_of(params: Mapping[str, Any]) -> Gate | None:
    """Return what a result must meet; None where nothing is asked of it."""
    conditions = expand(params.get("gate", ()), params["domains"])
    return Gate(conditions, params["windows"]) if conditions else None


def read(context: StepContext) -> dict[str, list[Item]]:
    """Return what is judged on, of each domain, with the source's tokenizer."""
    params = context.params
    count = most_items(params["windows"], is_gated=bool(params.get("gate")))
    return read_first(context, count)


def read_first(context: StepContext, count: int) -> dict[str, list[Item]]:
    """Return so many items of each domain; the team's own datasets are among the inputs."""
    own = {}
    for name, about in context.params.get("datasets", {}).items():
        (path,) = context.inputs[name].iterdir()
        own[name] = OwnDomain(path, DatasetKind(about["kind"]))
    return evaluation.read_all(context.inputs["fetch"], context.params["domains"], count, own)


def rows(
    scores: Mapping[str, Sequence[ItemScore]], measures: Mapping[str, Mapping[str, Estimate]] | None = None
) -> list[EvaluationRow]:
    """Return scores, and what was measured beside full precision, as they are kept."""
    return [
        EvaluationRow(
            domain=domain,
            perplexity=evaluation.perplexity(items),
            window_count=len(items),
            token_count=evaluation.token_count(items),
            window_nll=[float(item.nll.sum()) for item in items],
            measures=None if measures is None or domain not in measures else _documents(measures[domain]),
        )
        for domain, items in scores.items()
    ]


def _documents(measures: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {metric: dataclasses.asdict(estimate) for metric, estimate in measures.items()}


def too_short(found: Sequence[EvaluationRow], windows: int) -> list[str]:
    """Return a warning for each text that has less than was asked for."""
    return [
        f"The text {row.domain!r} has {row.window_count} windows for this tokenizer; {windows} were asked for."
        for row in found
        if row.window_count < windows
    ]
