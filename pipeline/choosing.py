"""Which result to ship: those that no other beats in everything, and the smallest that loses little enough.

Decided on the worse end of each interval, so that what is recommended is good enough also if the measurement flattered
it. Pure functions of what was measured. Refuses to know: jobs, tables, and what anything costs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engines.comparison import AGREEMENT, PERPLEXITY_RATIO
from engines.gates import Condition
from engines.intervals import Estimate
from pipeline.choosing_words import METRICS, Metric, bytes_in_words, listed

NEARLY = 0.02  # sizes that differ by less are as good as one
DEFAULT_CONDITIONS = (Condition(PERPLEXITY_RATIO, max=1.02), Condition(AGREEMENT, min=0.95))


@dataclass(frozen=True)
class Candidate:
    """A recipe of a sweep and what is known of its result.

    Attributes:
        id: of its job.
        name: of its recipe.
        is_over: whether its job is.
        has_result: whether it has brought a result.
        size_bytes: of the result; None where it is not known.
        measures: by domain, or task, and metric; empty where nothing was measured.
        verdict: of the job's own gate, ``passed`` or ``blocked``; None where it had none or has not decided.
        generation_tokens_per_second: how fast it is served; None where nobody has measured.
        runtime: by what it is served: speeds of two runtimes are not compared.
    """

    id: str
    name: str
    is_over: bool
    has_result: bool
    size_bytes: int | None
    measures: Mapping[str, Mapping[str, Estimate]]
    verdict: str | None = None
    generation_tokens_per_second: float | None = None
    runtime: str | None = None

    def measure(self, metric: str, domain: str | None) -> Estimate | None:
        """Return what was measured; None where nothing was."""
        return self.measures.get(domain or "", {}).get(metric)


@dataclass(frozen=True)
class Recommendation:
    """What to ship, and why.

    Attributes:
        chosen: the job of the smallest result that meets the conditions; None if none does.
        nearest: the job that comes nearest where none does; None where nothing was measured.
        alike: jobs whose results cannot be told from the chosen one, at nearly its size.
        is_provisional: whether jobs that are not over may change it.
        reason: in sentences, with the numbers.
    """

    chosen: str | None
    nearest: str | None
    alike: tuple[str, ...]
    is_provisional: bool
    reason: str


@dataclass(frozen=True)
class _Bound:
    """One end of a condition: the most, or the least, that a metric may be in one domain; None if measured in none.

    A task is a domain here.
    """

    metric: str
    domain: str | None
    limit: float
    is_most: bool

    @property
    def words(self) -> Metric:
        return METRICS.get(self.metric) or Metric(self.metric.replace("_", " "))

    @property
    def what(self) -> str:
        return f"{self.domain} {self.words.name}" if self.domain else self.words.name

    def worse_end(self, candidate: Candidate) -> float | None:
        """Return the worse end of what was measured; None where there is none."""
        estimate = candidate.measure(self.metric, self.domain)
        if estimate is None:
            return None
        return estimate.high if self.is_most else estimate.low

    def missed_by(self, end: float) -> float:
        """Return by how much a value misses the limit; at most 0 if it keeps it."""
        return end - self.limit if self.is_most else self.limit - end

    def excess(self, candidate: Candidate) -> float | None:
        """Return by how much a result misses the limit, as a part of what it allows to be lost."""
        return self._part(self.worse_end(candidate))

    def likely_excess(self, candidate: Candidate) -> float | None:
        """Return the same, of the value that was measured where that has no interval."""
        end, estimate = self.worse_end(candidate), candidate.measure(self.metric, self.domain)
        return self._part(estimate.value if end is None and estimate is not None else end)

    def _part(self, value: float | None) -> float | None:
        return None if value is None else self.missed_by(value) / (abs(self.limit - self.words.perfect) or 1.0)


def pareto(candidates: Sequence[Candidate]) -> frozenset[str]:
    """Return the jobs whose results no other beats: none is at least as good in everything and better in something.

    Compared are size, the perplexity that is lost in each domain and, where it is known of all by one runtime, the
    speed of generation; by the values measured, whatever their intervals. A result of which one of these is not known
    is left out.
    """
    results = [one for one in candidates if one.has_result]
    domains = _domains_of(results, PERPLEXITY_RATIO)
    points = {one.id: point for one in results if (point := _point(one, domains)) is not None} if domains else {}
    compared = [one for one in results if one.id in points]
    if len({one.runtime for one in compared}) == 1:
        speeds = {one.id: one.generation_tokens_per_second for one in compared}
        known = {key: speed for key, speed in speeds.items() if speed is not None}
        if len(known) == len(points):
            points = {key: (*point, -known[key]) for key, point in points.items()}
    return frozenset(key for key, mine in points.items() if not any(_beats(other, mine) for other in points.values()))


def recommend(candidates: Sequence[Candidate], conditions: Sequence[Condition]) -> Recommendation:
    """Return the smallest result that meets the conditions, with its reason.

    A result that a gate of its job has decided on is held to that decision: it may have looked at more than is told.

    Args:
        candidates: every recipe of the sweep.
        conditions: the sweep's gate; those of ``DEFAULT_CONDITIONS`` where it is empty. One without a domain or a task
            holds in each in which any result was measured by it.
    """
    waiting = sum(not one.is_over for one in candidates)
    results = [
        one for one in candidates if one.has_result and one.size_bytes is not None and any(one.measures.values())
    ]
    provisional = f"Provisional, as {waiting} of {len(candidates)} jobs are not over: " if waiting else ""
    if not results:
        nothing = "no result has been measured yet." if waiting else "No job has brought a result that was measured."
        return Recommendation(None, None, (), waiting > 0, provisional + nothing)
    bounds = _bounds(conditions or DEFAULT_CONDITIONS, results)
    meeting = sorted((one for one in results if _meets(one, bounds)), key=_size_and_loss)
    if not meeting:
        nearest = min(results, key=lambda one: _distance(one, bounds))
        return Recommendation(None, nearest.id, (), waiting > 0, provisional + _why_none(results, nearest, bounds))
    chosen = meeting[0]
    alike = [one for one in results if one is not chosen and _may_be_had(one) and _is_alike(one, chosen, bounds)]
    reason = _why(results, chosen, bounds)
    if alike:
        reason += f" Not to be told from it, at nearly its size: {listed([_named(one) for one in alike])}."
    return Recommendation(chosen.id, None, tuple(one.id for one in alike), waiting > 0, provisional + reason)


def _point(candidate: Candidate, domains: Sequence[str]) -> tuple[float, ...] | None:
    """Return size and losses, of which less is better; None where one is not known."""
    losses = [loss.value for domain in domains if (loss := candidate.measure(PERPLEXITY_RATIO, domain)) is not None]
    if candidate.size_bytes is None or len(losses) < len(domains):
        return None
    return candidate.size_bytes, *losses


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def _domains_of(candidates: Iterable[Candidate], metric: str) -> list[str]:
    """Return the domains in which a metric was measured for any of them, in the order of first mention."""
    named = ((domain, measured) for one in candidates for domain, measured in one.measures.items())
    return list(dict.fromkeys(domain for domain, measured in named if metric in measured))


def _bounds(conditions: Iterable[Condition], results: Sequence[Candidate]) -> list[_Bound]:
    bounds = []
    for one in conditions:
        named = one.domain or one.task
        domains: Sequence[str | None] = [named] if named else _domains_of(results, one.metric) or [None]
        for limit, is_most in ((one.max, True), (one.min, False)):
            if limit is not None:
                bounds += [_Bound(one.metric, domain, limit, is_most) for domain in domains]
    return bounds


def _meets(candidate: Candidate, bounds: Sequence[_Bound]) -> bool:
    if candidate.verdict is not None:
        return candidate.verdict == "passed"
    return all(excess is not None and excess <= 0 for excess in (bound.excess(candidate) for bound in bounds))


def _may_be_had(candidate: Candidate) -> bool:
    return candidate.verdict != "blocked"


def _size_and_loss(candidate: Candidate) -> tuple[int, float]:
    losses = (loss.value for each in candidate.measures.values() if (loss := each.get(PERPLEXITY_RATIO)) is not None)
    return candidate.size_bytes or 0, sum(losses)


def _distance(candidate: Candidate, bounds: Sequence[_Bound]) -> tuple[int, float, tuple[int, float]]:
    """Return what is the less the nearer a result comes: what was not measured weighs most, then the largest excess."""
    excesses = [bound.excess(candidate) for bound in bounds]
    likely = [excess for bound in bounds if (excess := bound.likely_excess(candidate)) is not None]
    return excesses.count(None), max(likely, default=0.0), _size_and_loss(candidate)


def _is_alike(candidate: Candidate, chosen: Candidate, bounds: Sequence[_Bound]) -> bool:
    """Return whether a result has nearly the size of the chosen one, and nothing that was measured tells them apart."""
    size, chosen_size = candidate.size_bytes, chosen.size_bytes
    if size is None or chosen_size is None or abs(size - chosen_size) > NEARLY * chosen_size:
        return False
    decisive = {(bound.metric, bound.domain) for bound in bounds}
    pairs = [(candidate.measure(*name), chosen.measure(*name)) for name in decisive]
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    return bool(known) and all(_overlap(one, other) for one, other in known)


def _overlap(one: Estimate, other: Estimate) -> bool:
    """Return whether two may be the same, as far as was measured."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return True
    return one.low <= other.high and other.low <= one.high


def _named(candidate: Candidate) -> str:
    return f"{candidate.name} ({bytes_in_words(candidate.size_bytes or 0)})"


def _why(results: Sequence[Candidate], chosen: Candidate, bounds: Sequence[_Bound]) -> str:
    kinds = dict.fromkeys((bound.metric, bound.limit, bound.is_most) for bound in bounds)
    kept = [
        _kept(chosen, [bound for bound in bounds if (bound.metric, bound.limit, bound.is_most) == kind])
        for kind in kinds
    ]
    which = f"the smallest of {len(results)} results that keeps" if len(results) > 1 else "the one result, and keeps"
    return f"{_named(chosen)} is {which} {listed(kept)}."


def _kept(chosen: Candidate, same: Sequence[_Bound]) -> str:
    """Return that a result keeps one limit in some domains, and how close it comes in the worst of them."""
    first = same[0]
    domains = [bound.domain for bound in same if bound.domain]
    ends = [(end, bound.domain) for bound in same if (end := bound.worse_end(chosen)) is not None]
    limit = first.words.limit(first.limit, is_most=first.is_most)
    what = f"{listed(domains)} {first.words.name} {limit}" if domains else f"{first.words.name} {limit}"
    if not ends:
        return what
    worst, where = (max if first.is_most else min)(ends, key=lambda end: end[0])
    side = "at most" if first.is_most else "at least"
    place = f" on {where}" if len(domains) > 1 else ""
    return f"{what} ({side} {first.words.amount(worst, beside=first.limit)}{place})"


def _why_none(results: Sequence[Candidate], nearest: Candidate, bounds: Sequence[_Bound]) -> str:
    missed = [text for bound in bounds if (text := _missed(nearest, bound)) is not None] or ["its gate has blocked it"]
    if len(results) == 1:
        return f"The one result, {_named(nearest)}, does not meet the conditions: {listed(missed)}."
    return (
        f"None of the {len(results)} results meets the conditions. {_named(nearest)} comes nearest: {listed(missed)}."
    )


def _missed(candidate: Candidate, bound: _Bound) -> str | None:
    """Return what a result fails, and by how much; None where it does not."""
    if candidate.measure(bound.metric, bound.domain) is None:
        return f"{bound.what} was not measured"
    end = bound.worse_end(candidate)
    if end is None:
        return f"{bound.what} was measured on too little to tell"
    beyond = bound.missed_by(end)
    if beyond <= 0:
        return None
    words = bound.words
    allowed, how = ("allowed", "too much") if bound.is_most else ("asked for", "too little")
    reached, limit = words.amount(end, beside=bound.limit), words.amount(bound.limit)
    return f"{bound.what} may be {reached}, and {limit} is {allowed} ({words.difference(beyond)} {how})"
