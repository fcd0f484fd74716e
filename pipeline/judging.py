"""What ``reference`` and ``evaluate`` share: which text is read, and how scores become rows."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.dataset_kinds import DatasetKind
from core.steps import EvaluationRow, UnboundStep
from engines import evaluation, runtimes, tasks
from engines.domains import ITEM_TOKENS, WINDOW_TOKENS, Item, is_in_order, text_digest
from engines.evaluation import Asked
from engines.gates import LOOKS, Gate, expand, items_at
from engines.intervals import BLOCKS_MIN, TOKENS_MIN, Estimate, block_length
from engines.own_domains import OwnDataset
from engines.runtimes import Judged
from engines.score_files import Reference
from engines.scoring import ItemScore
from engines.tasks import NO_TASKS, TaskSet
from pipeline.step_kind import StepContext


def judged(step: UnboundStep) -> dict[str, Any]:
    """Return the parameters of the work: with the texts themselves, since another text gives other scores."""
    return {**step.params, "texts": digests(step.params)}


def digests(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of the text of each domain, as the content of a step's work."""
    own = params.get("datasets", {})
    return {name: own[name]["sha256"] if name in own else text_digest(name) for name in params["domains"]}


def dataset_inputs(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the ids of the team's own datasets among domains and tasks, by what the work calls them: the same."""
    return {dataset_id: dataset_id for dataset_id in params.get("datasets", {})}


def most_items(windows: int, *, is_gated: bool) -> int:
    """Return how many items of each text, or of each task, may be looked at: with a gate, those of its last look."""
    return items_at(LOOKS, windows) if is_gated else windows


def gate_of(params: Mapping[str, Any]) -> Gate | None:
    """Return what a result must meet; None where nothing is asked of it."""
    kinds = {task: DatasetKind(params["datasets"][task]["kind"]) for task in params.get("tasks", ())}
    conditions = expand(params.get("gate", ()), params["domains"], kinds)
    return Gate(conditions, params["windows"], params.get("task_items", 0)) if conditions else None


def gate_warnings(params: Mapping[str, Any], own_items: Mapping[str, int]) -> Iterator[str]:
    """Yield what of a gate cannot pass, however good the result is: there is too little to look at.

    Args:
        params: how a result is judged.
        own_items: how many items each of the team's own datasets has that is no plain text.
    """
    if (gate := gate_of(params)) is None:
        return
    for condition in gate.conditions:
        where = condition.where or ""
        most = gate.task_items_at(LOOKS) if condition.task else gate.items_at(LOOKS)
        items = min(most, own_items.get(where, most))
        needed = condition.items_needed
        if condition.task and needed is None:
            yield f"{condition.short} can never pass: no number of right answers proves that all will be."
        elif needed is not None and items < needed:
            best = "loses nothing on any" if condition.max is not None else "scores all"
            yield (
                f"{condition.short} cannot pass on {items} items where the result {best}: it takes {needed}. Ask for "
                "less, raise task_items or bring a larger dataset."
            )
        elif not condition.task and items / block_length(items, in_order=_is_in_order(params, where)) < BLOCKS_MIN:
            advice = "Ask for more windows." if items == most else "Bring a larger dataset."
            yield f"{condition.short} cannot pass on {items} items, of which there is no interval. {advice}"


def _is_in_order(params: Mapping[str, Any], domain: str) -> bool:
    own = params.get("datasets", {})
    return own[domain]["kind"] == DatasetKind.TEXT if domain in own else is_in_order(domain)


def read(context: StepContext) -> Asked:
    """Return what is judged on, read with the source's tokenizer."""
    return Asked(read_first(context, _most(context, "windows")), _tasks(context))


def asked_of(reference: Reference, context: StepContext) -> Asked:
    """Return what full precision has been judged on, without the source's tokenizer: many a result loads faster."""
    if reference.items:
        return Asked({name: reference.items[name] for name in context.params["domains"]}, _tasks(context))
    # It is an earlier version's, which kept no items, and read no more of each than a window.
    return Asked(read_first(context, _most(context, "windows"), WINDOW_TOKENS), _tasks(context))


def read_first(context: StepContext, count: int, longest: int = ITEM_TOKENS) -> dict[str, list[Item]]:
    """Return so many items of each domain; see ``evaluation.read_all``."""
    domains = context.params["domains"]
    return evaluation.read_all(context.inputs["fetch"], domains, count, _own(context, domains), longest)


def _most(context: StepContext, name: str) -> int:
    """Return how many items may be looked at of those that a parameter counts."""
    return most_items(context.params.get(name, 0), is_gated=bool(context.params.get("gate")))


def engine(written: Judged, params: Mapping[str, Any]) -> str:
    """Return the versions of what judges a format."""
    runtime = runtimes.ENGINES[written]
    return f"{runtime}, {tasks.HARNESS}" if params.get("tasks") else runtime


def longest(params: Mapping[str, Any]) -> int:
    """Return how many tokens a model has to read at once."""
    return ITEM_TOKENS if params.get("tasks") or own_items(params) else WINDOW_TOKENS


def own_items(params: Mapping[str, Any]) -> list[str]:
    """Return those domains that are datasets of the team and no plain text: each item of them is read at once."""
    own = params.get("datasets", {})
    return [name for name in params["domains"] if name in own and own[name]["kind"] != DatasetKind.TEXT]


def _tasks(context: StepContext) -> TaskSet:
    names = context.params.get("tasks", ())
    if not names:
        return NO_TASKS
    count = _most(context, "task_items")
    return TaskSet(context.inputs["fetch"], _own(context, names), count, context.engine.code_execution)


def _own(context: StepContext, names: Sequence[str]) -> dict[str, OwnDataset]:
    """Return those that are datasets of the team, which are among the inputs."""
    own = {}
    for name, about in context.params.get("datasets", {}).items():
        if name in names:
            (path,) = context.inputs[name].iterdir()
            own[name] = OwnDataset(path, DatasetKind(about["kind"]))
    return own


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


def too_short(found: Sequence[EvaluationRow], windows: int) -> Iterator[str]:
    """Yield a warning for each domain that has less than is looked at, with a gate at its last look, or too little."""
    for row in found:
        if row.window_count < windows:
            yield f"{row.domain!r} has {row.window_count} items for this tokenizer, and up to {windows} were wanted."
        if row.token_count < TOKENS_MIN:
            yield (
                f"{row.domain!r} has {row.token_count} tokens to score, and intervals take {TOKENS_MIN}: nothing that "
                "is lost there can be told from noise, and no gate on it be decided. Ask for more of it."
            )
