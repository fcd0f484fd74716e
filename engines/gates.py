"""Conditions that a result must meet before it is published, decided on intervals and not on figures.

A condition has passed once the whole interval lies within its limit, and is blocked once the whole lies beyond. What is
undecided is looked at again on more text, ``LOOKS`` times in all, each time on twice as much; the error of 5 % that an
interval may make is shared among the looks (Bonferroni), so that a result whose true loss is just at the limit passes
in at most that part of all cases. What stays undecided is blocked.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from core.dataset_kinds import DatasetKind
from engines.intervals import BLOCKS_MIN, CONFIDENCE, Estimate
from engines.task_comparison import ACCURACY_DROP, TASK_METRICS
from engines.tasks import ACCURACY

Verdict = Literal["passed", "blocked"]
Decision = Literal["passed", "blocked", "undecided"]

LOOKS = 3
LOOK_CONFIDENCE = 1 - (1 - CONFIDENCE) / LOOKS


@dataclass(frozen=True)
class Condition:
    """A limit of one metric.

    Attributes:
        metric: one of ``METRICS``.
        domain: the text on which it is measured; None where it shall hold on each that is judged on.
        max: what it may be at most; None where it has a ``min``.
        min: what it must be at least; None where it has a ``max``.
        task: the task in which it is measured, where it is one of ``TASK_METRICS``; None where it shall hold in each.
    """

    metric: str
    domain: str | None = None
    max: float | None = None
    min: float | None = None
    task: str | None = None

    @property
    def short(self) -> str:
        """The condition as a request may name it, such as ``code: perplexity_ratio <= 1.02``."""
        limit = f"<= {_plain(self.max)}" if self.max is not None else f">= {_plain(_given(self.min))}"
        return f"{self.where}: {self.metric} {limit}" if self.where else f"{self.metric} {limit}"

    @property
    def where(self) -> str | None:
        """The text or the task that it names; None where it names none."""
        return self.domain or self.task

    @property
    def items_needed(self) -> int | None:
        """How many items of a task it takes, at the least, for a result that loses nothing in any of them to pass.

        None where there is no such number: a text's metric, and a part of 1, which no count proves.
        """
        if self.metric not in TASK_METRICS:
            return None
        lost = self.max if self.max is not None else 1 - _given(self.min)
        tail = (1 - LOOK_CONFIDENCE) / 2
        if lost <= 0:
            return None
        proving = 1 if lost >= 1 else math.ceil(math.log(tail) / math.log1p(-lost))
        return max(BLOCKS_MIN, proving)

    def decide(self, measured: Estimate | None) -> Decision:
        """Return what a measurement says; nothing is decided where there is no interval."""
        if measured is None or measured.low is None or measured.high is None:
            return "undecided"
        low, high = measured.low, measured.high
        passed = high <= self.max if self.max is not None else low >= _given(self.min)
        blocked = low > self.max if self.max is not None else high < _given(self.min)
        return "passed" if passed else "blocked" if blocked else "undecided"


@dataclass(frozen=True)
class Outcome:
    """What became of one condition on one text, or in one task.

    Attributes:
        condition: with its domain or its task.
        measured: the metric with the interval on which it was decided; None where it could not be measured.
        decision: what that says.
    """

    condition: Condition
    measured: Estimate | None
    decision: Decision


@dataclass(frozen=True)
class GateReport:
    """What became of all conditions at one look.

    Attributes:
        verdict: whether the result may be published.
        look: which one it was, from 1.
        is_final: whether no further look is to be taken.
        outcomes: of each condition on each of its texts.
    """

    verdict: Verdict
    look: int
    is_final: bool
    outcomes: Sequence[Outcome]


@dataclass(frozen=True)
class Gate:
    """All that is asked of a result.

    Attributes:
        conditions: each with its domain or its task.
        items: how many of each text the first look has.
        task_items: how many of each task it has.
    """

    conditions: Sequence[Condition]
    items: int
    task_items: int = 0

    def items_at(self, look: int) -> int:
        """Return how many items of each text a look has, from 1."""
        return items_at(look, self.items)

    def task_items_at(self, look: int) -> int:
        """Return how many items of each task a look has, from 1."""
        return items_at(look, self.task_items)

    def judge(self, measured: Mapping[str, Mapping[str, Estimate]], look: int, has_more: Collection[str]) -> GateReport:
        """Return what a look has decided.

        Args:
            measured: by domain and by task, each metric with its interval at ``LOOK_CONFIDENCE``.
            look: which one it is, from 1.
            has_more: the domains and tasks of which there is more to look at. Where a condition is undecided and has
                no more, nothing that is found of others would let the result pass.
        """
        outcomes = []
        for condition in self.conditions:
            found = measured.get(condition.where or "", {}).get(condition.metric)
            outcomes.append(Outcome(condition, found, condition.decide(found)))
        decisions = {outcome.decision for outcome in outcomes}
        is_stuck = any(one.decision == "undecided" and one.condition.where not in has_more for one in outcomes)
        is_final = "blocked" in decisions or decisions <= {"passed"} or look == LOOKS or is_stuck
        return GateReport("passed" if decisions <= {"passed"} else "blocked", look, is_final, tuple(outcomes))


def items_at(look: int, asked: int) -> int:
    """Return how many items of each text, or of each task, a look has.

    Args:
        look: from 1.
        asked: how many the first one has.
    """
    return asked << (look - 1)


def expand(
    conditions: Iterable[Mapping[str, Any]], domains: Sequence[str], tasks: Mapping[str, DatasetKind]
) -> tuple[Condition, ...]:
    """Return conditions, as a request has them, each for one domain or one task; what names none holds on every one.

    Args:
        conditions: in long form.
        domains: all that are judged on.
        tasks: likewise, each with its kind; ROUGE-L is measured of references alone.
    """
    expanded: list[Condition] = []
    for one in (Condition(**condition) for condition in conditions):
        if one.where is not None:
            expanded.append(one)
        elif one.metric in TASK_METRICS:
            expanded += [replace(one, task=task) for task, kind in tasks.items() if one.metric in metrics_of(kind)]
        else:
            expanded += [replace(one, domain=domain) for domain in domains]
    return tuple(expanded)


def metrics_of(kind: DatasetKind) -> Sequence[str]:
    """Return what is measured in a task of a kind."""
    return TASK_METRICS if kind == DatasetKind.REFERENCE else (ACCURACY, ACCURACY_DROP)


def _plain(limit: float) -> str:
    """Return a number with all of its digits and without an exponent."""
    return format(Decimal(repr(limit)), "f").removesuffix(".0")


def _given(limit: float | None) -> float:
    if limit is None:
        raise ValueError("a condition has neither min nor max")
    return limit
