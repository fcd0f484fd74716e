"""Conditions that a result must meet before it is published, decided on intervals and not on figures.

A condition has passed once the whole interval lies within its limit, and is blocked once the whole lies beyond. What is
undecided is looked at again on more text, ``LOOKS`` times in all, each time on twice as much; the error of 5 % that an
interval may make is shared among the looks (Bonferroni), so that a result whose true loss is just at the limit passes
in at most that part of all cases. What stays undecided is blocked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from engines.intervals import CONFIDENCE, Estimate

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
        task: the task on which it is measured, where the metric is one of tasks; None where it shall hold on each.
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
        where = self.domain or self.task
        return f"{where}: {self.metric} {limit}" if where else f"{self.metric} {limit}"

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
    """What became of one condition on one text.

    Attributes:
        condition: with its domain.
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
        conditions: each with its domain.
        items: how many of each text the first look has.
    """

    conditions: Sequence[Condition]
    items: int

    def items_at(self, look: int) -> int:
        """Return how many items of each text a look has, from 1."""
        return items_at(look, self.items)

    def judge(self, measured: Mapping[str, Mapping[str, Estimate]], look: int, *, has_more: bool) -> GateReport:
        """Return what a look has decided.

        Args:
            measured: by domain, each metric with its interval at ``LOOK_CONFIDENCE``.
            look: which one it is, from 1.
            has_more: whether there is more text to look at.
        """
        outcomes = []
        for condition in self.conditions:
            found = measured.get(condition.domain or "", {}).get(condition.metric)
            outcomes.append(Outcome(condition, found, condition.decide(found)))
        decisions = {outcome.decision for outcome in outcomes}
        is_final = "blocked" in decisions or decisions <= {"passed"} or look == LOOKS or not has_more
        return GateReport("passed" if decisions <= {"passed"} else "blocked", look, is_final, tuple(outcomes))


def items_at(look: int, asked: int) -> int:
    """Return how many items of each text a look has.

    Args:
        look: from 1.
        asked: how many the first one has.
    """
    return asked << (look - 1)


def expand(conditions: Iterable[Mapping[str, Any]], domains: Sequence[str]) -> tuple[Condition, ...]:
    """Return conditions, as a request has them, each for one domain: what names none holds on every text."""
    given = [Condition(**condition) for condition in conditions]
    return tuple(replace(one, domain=domain) for one in given for domain in ([one.domain] if one.domain else domains))


def _plain(limit: float) -> str:
    """Return a number with all of its digits and without an exponent."""
    return format(Decimal(repr(limit)), "f").removesuffix(".0")


def _given(limit: float | None) -> float:
    if limit is None:
        raise ValueError("a condition has neither min nor max")
    return limit
