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
from engines.comparison import compare
from engines.context import EngineContext, Progress, Suspended
from engines.domains import SCORED_TOKENS, WINDOW_TOKENS, Item, read_items
from engines.gates import LOOK_CONFIDENCE, LOOKS, Gate, GateReport
from engines.intervals import CONFIDENCE, Estimate
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from engines.own_domains import OwnDataset, read_own_items
from engines.runtimes import Judged, Runtime
from engines.score_files import BYTES_EACH, LogProbabilityWriter, Reference, read_scores, write_scores
from engines.scoring import ItemScore, score
from engines.task_comparison import compare_tasks
from engines.tasks import ACCURACY, ANSWERS_NAME, NO_TASKS, Answers, TaskScores, TaskSet, write_task_scores
from engines.tokenizer import load_tokenizer

MEAN_MAX = 100.0  # nats; a model that knows nothing of a million tokens has 14
PROCESS_BYTES = 1536 * 2**20  # torch, transformers and a large tokenizer
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


def forecast_reference(facts: ModelFacts, logit_bytes: int = 0, window_tokens: int = WINDOW_TOKENS) -> Forecast:
    """Return what judging the source in float32 will need.

    Args:
        facts: of the source.
        logit_bytes: what will be kept of its answers.
        window_tokens: how many tokens are read at once.
    """
    weights = 4 * facts.parameter_count + facts.weight_bytes // max(facts.layer_count, 1)
    return Forecast(
        memory_bytes=PROCESS_BYTES,
        vram_bytes=weights + _window_bytes(facts, window_tokens),
        scratch_bytes=2**20 + logit_bytes,
    )


def forecast_logits(facts: ModelFacts, windows: int, others: int, limit_bytes: int) -> int:
    """Return how many bytes of log-probabilities are kept.

    Args:
        facts: of the source.
        windows: how many windows of texts are scored.
        others: how many other items, of which all but the first token may be.
        limit_bytes: how much is kept at most.
    """
    tokens = windows * SCORED_TOKENS + others * (WINDOW_TOKENS - 1)
    return min(limit_bytes, tokens * facts.vocabulary_size * BYTES_EACH)


def forecast_result(
    facts: ModelFacts, written: Judged, result_bytes: int, window_tokens: int = WINDOW_TOKENS
) -> Forecast:
    """Return what running a result will need.

    Args:
        facts: of the source.
        written: the result's format; what transformers runs is unpacked to float32.
        result_bytes: size of the result.
        window_tokens: how many tokens are read at once.
    """
    if written != "gguf":
        return forecast_reference(facts, window_tokens=window_tokens)
    memory = PROCESS_BYTES + result_bytes + _window_bytes(facts, window_tokens)
    return Forecast(memory_bytes=memory, scratch_bytes=2**20)


def _window_bytes(facts: ModelFacts, window_tokens: int) -> int:
    """Return the room that one window takes: logits a few times over, activations, keys and values."""
    return 4 * window_tokens * (4 * facts.vocabulary_size + facts.hidden_size * (16 + 2 * facts.layer_count))


def read_all(
    tokenizer_folder: Path, domains: Sequence[str], count: int, own: Mapping[str, OwnDataset] = MappingProxyType({})
) -> dict[str, list[Item]]:
    """Return the first items of each domain; see ``read_items`` and ``read_own_items``.

    Args:
        tokenizer_folder: the source, for its tokenizer.
        domains: names of texts; those that are in ``own`` are no built-in ones.
        count: the most of each.
        own: a team's own datasets, by what they are called among the domains.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    return {
        domain: read_own_items(tokenizer, own[domain], count) if domain in own else read_items(tokenizer, domain, count)
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
    count = most = max(len(of_domain) for of_domain in asked.items.values())
    report = None
    if gate is None:
        scorer.score_up_to(most)
        scorer.score_tasks_up_to(asked.tasks.count)
    else:
        for look in range(1, LOOKS + 1):
            count = gate.items_at(look)
            scorer.score_up_to(count)
            has_more_items = scorer.score_tasks_up_to(gate.task_items_at(look))
            measured = {**scorer.measures(LOOK_CONFIDENCE, count), **scorer.task_measures(LOOK_CONFIDENCE)}
            report = gate.judge(measured, look, has_more=count < most or has_more_items)
            if report.is_final:
                break
    # An attempt that was broken off may have scored more than this look has.
    scores = {domain: done[:count] for domain, done in scorer.scores.items()}
    measures = scorer.measures(CONFIDENCE, count)
    baseline = {domain: perplexity(reference.scores[domain][: len(scores[domain])]) for domain in measures}
    return Judgement(scores, measures, baseline, scorer.task_judgements(), report)


class _Scorer(abc.ABC):
    """Scores items one after the other, and goes on where an earlier attempt was broken off."""

    def __init__(self, runtime: Runtime, asked: Asked, context: EngineContext) -> None:
        self._runtime = runtime
        self._items = asked.items
        self._tasks = asked.tasks
        self._context = context
        self._saved_at = time.monotonic()
        done = read_scores(context.checkpoint)
        self.scores: dict[str, list[ItemScore]] = {domain: done.get(domain, []) for domain in asked.items}
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

    def score_tasks_up_to(self, count: int) -> bool:
        """Score the first items of each task, and return whether there may be more."""
        self._answers_wanted = self._tasks.answers(count)
        for name in self._tasks.datasets:
            self.task_scores[name] = self._tasks.score(name, count, self._runtime, self._answers)
        has_more = any(len(scored[ACCURACY]) == count for scored in self.task_scores.values())
        return has_more and count < self._tasks.count

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


class _ReferenceScorer(_Scorer):
    def __init__(self, runtime: Runtime, asked: Asked, context: EngineContext, limit_bytes: int) -> None:
        super().__init__(runtime, asked, context)
        self._limit_bytes = limit_bytes
        self._writer: LogProbabilityWriter | None = None  # of the domain that is being scored

    def score(self, domain: str, index: int) -> ItemScore:
        item = self._items[domain][index]
        logits = self._runtime.logits(item)
        self._writer_of(domain).add(logits)
        return score(logits, item.targets)

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
        return score(self._runtime.logits(item), item.targets, self._reference.log_probabilities(domain, index))

    def measures(self, confidence: float, count: int) -> Mapping[str, Mapping[str, Estimate]]:
        """Return by domain each metric with its interval, of so many items; nothing where there is no reference."""
        known = self._reference.scores
        return {
            domain: compare(
                known[domain], scored[:count], in_order=self._items[domain][0].follows, confidence=confidence
            )
            for domain, scored in self.scores.items()
            if domain in known
        }

    def task_measures(self, confidence: float) -> Mapping[str, Mapping[str, Estimate]]:
        """Return by task each metric with its interval."""
        known = self._reference.tasks
        return {name: compare_tasks(known[name], scored, confidence) for name, scored in self.task_scores.items()}

    def task_judgements(self) -> Mapping[str, TaskJudgement]:
        """Return what was found out in each task."""
        known, judged = self._reference.tasks, {}
        for name, measures in self.task_measures(CONFIDENCE).items():
            count = len(self.task_scores[name][ACCURACY])
            baseline = {metric: math.fsum(scored[:count]) / count for metric, scored in known[name].items()}
            judged[name] = TaskJudgement(count, baseline, measures)
        return judged
