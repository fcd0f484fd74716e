"""The one evaluator: how well a model predicts text, and what it has lost against full precision.

The source tokenizer's ids are fed to each runtime through one port; what is compared is the probability of the same
tokens. Perplexity is exp of the mean negative log-likelihood, in nats. Work that is broken off goes on at the item
where it was.
"""

import abc
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from core.errors import ModelUnsupported
from engines.comparison import Drawn, draw
from engines.context import EngineContext, Progress, Suspended
from engines.domains import ITEM_TOKENS, Item, read_items
from engines.gates import LOOK_CONFIDENCE, LOOKS, Gate, GateReport
from engines.intervals import CONFIDENCE, Estimate
from engines.own_domains import OwnDataset, read_own_items
from engines.runtimes import Runtime, readable
from engines.score_files import LogProbabilityWriter, Reference, read_scores, write_items, write_scores
from engines.scoring import ItemScore, score
from engines.source import inspect_snapshot
from engines.task_comparison import DrawnTask, draw_task
from engines.tasks import ACCURACY, ANSWERS_NAME, NO_TASKS, Answers, TaskScores, TaskSet, write_task_scores
from engines.tokenizer import load_tokenizer

MEAN_MAX = 100.0  # nats; a model that knows nothing of a million tokens has 14
REFERENCE_BYTES_MAX = 8 * 2**30
SAVE_SECONDS = 30.0  # between two times that what is done is put aside

Items = Mapping[str, Sequence[Item]]


@dataclass(frozen=True)
class Asked:
    """All that a model is judged on.

    Attributes:
        items: of each domain.
        tasks: the tasks.
    """

    items: Items
    tasks: TaskSet = NO_TASKS


@dataclass(frozen=True)
class TaskJudgement:
    """What was found out about a result in one task.

    Attributes:
        items: how many were looked at.
        baseline: by metric, what full precision scores on the same items.
        measures: each metric with its 95 % interval.
    """

    items: int
    baseline: Mapping[str, float]
    measures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Judgement:
    """What was found out about a result.

    Attributes:
        scores: of the items that were looked at, by domain.
        measures: by domain, each metric with its 95 % interval.
        baseline: by domain, full precision's perplexity on the same items, of which it may have been scored on more.
        tasks: of each task.
        gate: what became of the gate; None where there is none.
    """

    scores: Mapping[str, Sequence[ItemScore]]
    measures: Mapping[str, Mapping[str, Estimate]]
    baseline: Mapping[str, float]
    tasks: Mapping[str, TaskJudgement]
    gate: GateReport | None


def perplexity(items: Sequence[ItemScore]) -> float:
    """Return exp of the mean over all scored tokens.

    Raises:
        ModelUnsupported: the model gives the text no probability at all.
    """
    mean = math.fsum(math.fsum(item.nll) for item in items) / token_count(items)
    if mean > MEAN_MAX:
        raise ModelUnsupported("The model gives the text no probability at all: its weights are damaged.")
    return math.exp(mean)


def token_count(items: Sequence[ItemScore]) -> int:
    """Return how many tokens were scored."""
    return sum(len(item.nll) for item in items)


def read_all(
    snapshot: Path,
    domains: Sequence[str],
    count: int,
    own: Mapping[str, OwnDataset] = MappingProxyType({}),
    longest: int = ITEM_TOKENS,
) -> dict[str, list[Item]]:
    """Return the first items of each domain; see ``read_items`` and ``read_own_items``.

    Args:
        snapshot: the source, for its tokenizer, and for how much it can read at once.
        domains: names of texts; those that are in ``own`` are no built-in ones.
        count: the most of each.
        own: a team's own datasets, by what they are called among the domains.
        longest: how many tokens are read of each item of these, if the model can.
    """
    tokenizer = load_tokenizer(snapshot)
    longest = readable(longest, inspect_snapshot(snapshot).position_count)
    return {
        domain: read_own_items(tokenizer, own[domain], count, longest)
        if domain in own
        else read_items(tokenizer, domain, count)
        for domain in domains
    }


def score_reference(
    runtime: Runtime, asked: Asked, context: EngineContext, limit_bytes: int = REFERENCE_BYTES_MAX
) -> Mapping[str, Sequence[ItemScore]]:
    """Score full precision, and leave in ``output`` what results are compared with.

    Args:
        runtime: the source, entered.
        asked: what it is judged on.
        context: where the work is done.
        limit_bytes: how much is kept of the log-probabilities, the same for each domain.

    Raises:
        ModelUnsupported: the model's numbers are not finite, or a token has no logit.
        DoesNotFit: memory ran out.
        Suspended: the work was broken off.
    """
    scorer = _ReferenceScorer(runtime, asked, context, limit_bytes // len(asked.items))
    scorer.score_up_to(max(len(of_domain) for of_domain in asked.items.values()))
    scorer.score_tasks_up_to(asked.tasks.count)
    scorer.write()
    for path in sorted(context.checkpoint.iterdir()):
        if path.name != ANSWERS_NAME:
            os.link(path, context.output / path.name)
    write_items(context.output, asked.items)
    write_task_scores(context.output, scorer.task_scores)
    return scorer.scores


def score_result(
    runtime: Runtime, asked: Asked, reference: Reference, context: EngineContext, gate: Gate | None = None
) -> Judgement:
    """Score a result beside full precision: on all items or, where it has a gate, on as many as that asks for.

    Args:
        runtime: the result, entered.
        asked: what it is judged on: that which the reference has been.
        reference: full precision's scores; a domain of which it has none is not compared.
        context: where the work is done.
        gate: what the result must meet; None where nothing is asked of it.

    Raises:
        ModelUnsupported: the model's numbers are not finite, or a token has no logit.
        DoesNotFit: memory ran out.
        Suspended: the work was broken off.
    """
    scorer = _ResultScorer(runtime, asked, context, reference)
    most = max(len(of_domain) for of_domain in asked.items.values())
    if gate is None:
        scorer.score_up_to(most)
        scorer.score_tasks_up_to(asked.tasks.count)
        return scorer.judgement(most, scorer.draw(most), None)
    for look in range(1, LOOKS + 1):
        count, task_count = gate.items_at(look), gate.task_items_at(look)
        scorer.score_up_to(count)
        scorer.score_tasks_up_to(task_count)
        drawn = scorer.draw(count)
        report = gate.judge(drawn.at(LOOK_CONFIDENCE), look, scorer.has_more_than(count, task_count))
        if report.is_final:
            break
    return scorer.judgement(count, drawn, report)


class _Scorer(abc.ABC):
    """Scores items one after the other, and goes on where an earlier attempt was broken off."""

    def __init__(self, runtime: Runtime, asked: Asked, context: EngineContext) -> None:
        self._runtime = runtime
        self._items = asked.items
        self._tasks = asked.tasks
        self._context = context
        self._saved_at = time.monotonic()
        done = read_scores(context.checkpoint)
        self.scores: dict[str, list[ItemScore]] = {
            domain: scored if _are_of(items, scored := done.get(domain, [])) else []
            for domain, items in asked.items.items()
        }
        self.task_scores: dict[str, TaskScores] = {}
        self._answers = Answers(context.checkpoint, self._report_answer)
        self._answers_wanted = 0

    @abc.abstractmethod
    def score(self, domain: str, index: int) -> ItemScore:
        """Return the score of one item."""

    def score_up_to(self, count: int) -> None:
        """Score the first items of each domain, those of them that are not scored yet."""
        total = sum(min(count, len(of_domain)) for of_domain in self._items.values())
        for domain, of_domain in self._items.items():
            for index in range(len(self.scores[domain]), min(count, len(of_domain))):
                self.scores[domain].append(self.score(domain, index))
                done = sum(len(scored) for scored in self.scores.values())
                self._context.report(Progress(done, total, "windows", domain))
                self._save_now_and_then()

    def score_tasks_up_to(self, count: int) -> None:
        """Score the first items of each task."""
        self._answers_wanted = self._tasks.answers(count)
        for name in self._tasks.datasets:
            self.task_scores[name] = self._tasks.score(name, count, self._runtime, self._answers)

    def has_more_than(self, count: int, task_count: int) -> set[str]:
        """Return the domains and tasks of which there may be more items than so many of each."""
        tasks = {name for name, of in self.task_scores.items() if len(of[ACCURACY]) == task_count < self._tasks.count}
        return tasks | {domain for domain, of_domain in self._items.items() if count < len(of_domain)}

    def write(self) -> None:
        """Put what is done into the checkpoint."""
        write_scores(self._context.checkpoint, self.scores)
        self._answers.write()

    def _report_answer(self) -> None:
        self._context.report(Progress(len(self._answers), max(len(self._answers), self._answers_wanted), "answers"))
        self._save_now_and_then()

    def _save_now_and_then(self) -> None:
        must_leave = self._context.must_leave()
        if must_leave or time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.write()
            self._context.save()
            self._saved_at = time.monotonic()
        if must_leave:
            raise Suspended


def _are_of(items: Sequence[Item], scores: Sequence[ItemScore]) -> bool:
    """Return whether scores are of the first items: an earlier version may have begun, and read less of each."""
    return all(len(score.nll) == len(item.targets) for score, item in zip(scores, items, strict=False))


class _ReferenceScorer(_Scorer):
    def __init__(self, runtime: Runtime, asked: Asked, context: EngineContext, limit_bytes: int) -> None:
        super().__init__(runtime, asked, context)
        self._limit_bytes = limit_bytes
        self._writer: LogProbabilityWriter | None = None  # of the domain that is being scored

    def score(self, domain: str, index: int) -> ItemScore:
        item = self._items[domain][index]
        logits = self._runtime.logits(item)
        self._writer_of(domain).add(logits, self._context.threads)
        return score(logits, item.targets, threads=self._context.threads)

    def write(self) -> None:
        if self._writer is not None:
            self._writer.flush()
        super().write()

    def _writer_of(self, domain: str) -> LogProbabilityWriter:
        if self._writer is None or self._writer.domain != domain:
            if self._writer is not None:
                self._writer.flush()
            done = [len(item.nll) for item in self.scores[domain]]
            self._writer = LogProbabilityWriter(self._context.checkpoint, domain, self._limit_bytes, done)
        return self._writer


class _ResultScorer(_Scorer):
    def __init__(self, runtime: Runtime, asked: Asked, context: EngineContext, reference: Reference) -> None:
        super().__init__(runtime, asked, context)
        self._reference = reference

    def score(self, domain: str, index: int) -> ItemScore:
        item = self._items[domain][index]
        logits, reference = self._runtime.logits(item), self._reference.log_probabilities(domain, index)
        return score(logits, item.targets, reference, self._context.threads)

    def draw(self, count: int) -> "_Drawn":
        """Draw each metric, of so many items of each domain and of what tasks have been scored up to."""
        known, tasks = self._reference.scores, self._reference.tasks
        # An attempt that was broken off may have scored more than is looked at.
        scored = {domain: done[:count] for domain, done in self.scores.items()}
        return _Drawn(
            {
                domain: draw(known[domain], done, in_order=self._items[domain][0].follows)
                for domain, done in scored.items()
                if domain in known  # a plan of an earlier version has no reference
            },
            {name: draw_task(tasks[name], done) for name, done in self.task_scores.items()},
        )

    def judgement(self, count: int, drawn: "_Drawn", report: GateReport | None) -> Judgement:
        """Return what was found out in so many items."""
        known, measured = self._reference.scores, drawn.at(CONFIDENCE)
        baseline = {domain: perplexity(known[domain][:count]) for domain in drawn.domains}
        return Judgement(
            {domain: done[:count] for domain, done in self.scores.items()},
            {domain: measured[domain] for domain in drawn.domains},
            baseline,
            {name: self._task_judgement(name, measured[name]) for name in drawn.tasks},
            report,
        )

    def _task_judgement(self, name: str, measures: Mapping[str, Estimate]) -> TaskJudgement:
        count = len(self.task_scores[name][ACCURACY])
        known = self._reference.tasks[name]
        return TaskJudgement(count, {metric: math.fsum(of[:count]) / count for metric, of in known.items()}, measures)


@dataclass(frozen=True)
class _Drawn:
    """Each metric, drawn for intervals at several confidences, by domain and by task."""

    domains: Mapping[str, Mapping[str, Drawn]]
    tasks: Mapping[str, Mapping[str, DrawnTask]]

    def at(self, confidence: float) -> Mapping[str, Mapping[str, Estimate]]:
        """Return by domain and by task each metric with its interval."""
        everything: dict[str, Mapping[str, Drawn | DrawnTask]] = {**self.domains, **self.tasks}
        return {where: {metric: one.at(confidence) for metric, one in of.items()} for where, of in everything.items()}
