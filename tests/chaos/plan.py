"""What a run does, drawn from its seed alone: the jobs with what becomes of them, and the faults with their times.

Refuses to know processes and databases. What a fault hits is chosen when it strikes, among what is there then, by the
number that was drawn for it.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FULL_JOBS = 200
TEAMS = 3
MODELS = 4
BURST = 20  # identical requests at once
SECONDS_PER_JOB = 1.2
STRIKES_BEGIN_SECONDS = 3.0
POISON_PART = 0.5  # of a run, at whose beginning poison is asked for: it takes its time
POISON_SECONDS = 600.0  # it is to have killed its last worker long before

# How many faults of each kind strike in a full run.
FAULTS: Mapping[str, int] = {
    "child": 10,
    "worker": 9,
    "dispatch": 6,
    "rescue": 6,
    "api": 6,
    "broker": 6,
    "postgres": 6,
    "stall": 6,
    "flush": 6,
    "preempt": 6,
    "repeat": 6,
    "poison": 3,  # each kills several workers
    "pause": 6,
    "drain": 6,
    "quota": 6,
    "resume": 5,  # each a real quantization
}
KILLS = ("child", "worker", "dispatch", "rescue", "api", "broker", "postgres")
NEED_A_CHILD = ("child", "worker", "stall", "preempt", "poison", "drain", "resume")

QUANTIZATION: Mapping[str, Any] = {
    "method": "gptq",
    "mse": 2.4,
    "calibration_samples": 8,
    "calibration_tokens": 64,
}

SUCCEEDED, FAILED = frozenset({"succeeded"}), frozenset({"failed"})


@dataclass(frozen=True)
class PlannedJob:
    """A job and what is done with it.

    Attributes:
        name: its own; the key under which it is asked for.
        at_seconds: when it is asked for, from the beginning.
        team: which team asks, by number.
        model: which copy of the model it reads, by number; None for one that is not there.
        recipe: the method and its parameters.
        pool: where a synthetic step runs; None for a real job, which is asked for over HTTP.
        ends: the statuses in which it may end if nobody cancels it.
        sends: how many times the request is sent at once.
        cancel_after_seconds: how long after its acceptance it is cancelled; None if it is not.
        is_retried: whether it is asked for again once it is over.
        priority: within its team.
        max_runtime_seconds: its deadline.
    """

    name: str
    at_seconds: float
    team: int
    model: int | None
    recipe: Mapping[str, Any]
    pool: str | None
    ends: frozenset[str] = SUCCEEDED
    sends: int = 1
    cancel_after_seconds: float | None = None
    is_retried: bool = False
    priority: int = 0
    max_runtime_seconds: int | None = None

    @property
    def is_poison(self) -> bool:
        """Whether its work kills its worker each time it runs."""
        return self.recipe.get("act") == "poison"


@dataclass(frozen=True)
class PlannedFault:
    """A fault.

    Attributes:
        kind: of fault.
        at_seconds: when it is due, from the beginning.
        draw: from 0 to 1; chooses what it hits.
        seconds: how long what an operator orders is to hold at least.
        jobs: what is asked for when it strikes; their times are counted from then.
    """

    kind: str
    at_seconds: float
    draw: float
    seconds: float = 0.0
    jobs: tuple[PlannedJob, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All that a run does."""

    seed: int
    jobs: tuple[PlannedJob, ...]
    faults: tuple[PlannedFault, ...] = field(default=())


def plan(seed: int, job_count: int, minutes: float | None = None) -> Plan:
    """Draw a plan.

    Args:
        seed: the same seed with the same sizes gives the same plan.
        job_count: jobs that are asked for; those that are retried and those that belong to a fault come on top.
        minutes: the time over which jobs and faults are spread.
    """
    draw = random.Random(seed)  # noqa: S311 - a plan that can be drawn again, not a secret
    seconds = job_count * SECONDS_PER_JOB if minutes is None else minutes * 60
    scale = job_count / FULL_JOBS
    bursts = _scaled(FAULTS["repeat"], scale)
    real = job_count // 30  # none in a short run: each keeps two cores busy for some ten seconds
    missing = max(1, job_count // 25)
    jobs = [_real(draw, number, seconds) for number in range(real)]
    jobs += [_missing(draw, number, seconds) for number in range(missing)]
    jobs = _with_bursts(draw, jobs, bursts)
    synthetic: list[PlannedJob] = []
    for number in range(job_count - len(jobs)):
        synthetic.append(_synthetic(draw, number, seconds, synthetic))
    faults = [
        _fault(draw, kind, number, _scaled(count, scale), seconds)
        for kind, count in FAULTS.items()
        if kind != "repeat"
        for number in range(_scaled(count, scale))
    ]
    return Plan(
        seed,
        tuple(sorted(jobs + synthetic, key=lambda job: job.at_seconds)),
        tuple(sorted(faults, key=lambda fault: fault.at_seconds)),
    )


def _scaled(count: int, scale: float) -> int:
    return max(1, round(count * scale))


def _fault(draw: random.Random, kind: str, number: int, count: int, seconds: float) -> PlannedFault:
    at_seconds = _due(draw, number, count, seconds * POISON_PART if kind == "poison" else seconds)
    chooses = draw.random()
    if kind == "poison":
        return PlannedFault(kind, at_seconds, chooses, jobs=(_poison(draw, number),))
    if kind == "resume":
        return PlannedFault(kind, at_seconds, chooses, jobs=(_quantization(draw, number),))
    if kind == "quota":
        return PlannedFault(kind, at_seconds, chooses, draw.uniform(4, 7), _crowd(draw, number))
    held_seconds = draw.uniform(3, 6) if kind in ("pause", "drain") else 0.0
    return PlannedFault(kind, at_seconds, chooses, held_seconds)


def _poison(draw: random.Random, number: int) -> PlannedJob:
    name = f"poison-{number}"
    return PlannedJob(
        name=name,
        at_seconds=0.0,
        team=draw.randrange(TEAMS),
        model=draw.randrange(MODELS),
        recipe={"method": "chaos", "label": name, "seconds": POISON_SECONDS, "act": "poison"},
        pool=draw.choice(("cpu", "gpu")),
        ends=FAILED,
    )


def _quantization(draw: random.Random, number: int) -> PlannedJob:
    """Draw a GPTQ, whose layers take long enough to be hit and have samples of its own, so that none is reused."""
    name = f"resume-{number}"
    return PlannedJob(
        name=name,
        at_seconds=0.0,
        team=draw.randrange(TEAMS),
        model=draw.randrange(MODELS),
        recipe={**QUANTIZATION, "seed": number},
        pool="gpu",
    )


def _crowd(draw: random.Random, number: int) -> tuple[PlannedJob, ...]:
    """Draw jobs of one team that come almost at once: over HTTP what has no model, and work for one pool."""
    team, pool = draw.randrange(TEAMS), draw.choice(("cpu", "gpu"))
    over_http = [
        PlannedJob(
            name=f"crowd-{number}-{one}",
            at_seconds=draw.uniform(0, 0.5),
            team=team,
            model=None,
            recipe={"method": "gguf", "type": "Q8_0"},
            pool=None,
            ends=FAILED,
            sends=draw.choice((1, 2)),
        )
        for one in range(4)
    ]
    stored = [
        PlannedJob(
            name=f"crowd-{number}-{pool}-{one}",
            at_seconds=draw.uniform(0, 0.5),
            team=team,
            model=draw.randrange(MODELS),
            recipe={"method": "chaos", "label": f"crowd-{number}-{one}", "seconds": draw.uniform(0.5, 2)},
            pool=pool,
        )
        for one in range(2)
    ]
    return tuple(over_http + stored)


def _due(draw: random.Random, number: int, count: int, seconds: float) -> float:
    """Return a time in the fault's own part of the run, so that faults of one kind do not come all at once."""
    return STRIKES_BEGIN_SECONDS + (number + draw.random()) / count * max(seconds - STRIKES_BEGIN_SECONDS, 1.0)


def _real(draw: random.Random, number: int, seconds: float) -> PlannedJob:
    is_cancelled = draw.random() < 0.3
    return PlannedJob(
        name=f"real-{number}",
        at_seconds=draw.uniform(0, seconds * 0.7),
        team=draw.randrange(TEAMS),
        model=0,
        recipe={"method": "gguf", "type": draw.choice(("Q8_0", "Q8_0", "Q4_0"))},
        pool=None,
        cancel_after_seconds=draw.uniform(0.5, 15) if is_cancelled else None,
        is_retried=is_cancelled or draw.random() < 0.2,
    )


def _missing(draw: random.Random, number: int, seconds: float) -> PlannedJob:
    return PlannedJob(
        name=f"missing-{number}",
        at_seconds=draw.uniform(0, seconds * 0.9),
        team=draw.randrange(TEAMS),
        model=None,
        recipe={"method": "gguf", "type": "Q8_0"},
        pool=None,
        ends=FAILED,
        is_retried=draw.random() < 0.3,
    )


def _with_bursts(draw: random.Random, jobs: list[PlannedJob], bursts: int) -> list[PlannedJob]:
    chosen = set(draw.sample(range(len(jobs)), min(bursts, len(jobs))))
    return [
        PlannedJob(**{**vars(job), "sends": BURST if index in chosen else draw.choice((1, 2))})
        for index, job in enumerate(jobs)
    ]


def _synthetic(draw: random.Random, number: int, seconds: float, earlier: list[PlannedJob]) -> PlannedJob:
    name, at_seconds = f"chaos-{number}", draw.uniform(0, seconds * 0.95)
    cancel_after = draw.uniform(0.1, 5) if draw.random() < 0.15 else None
    is_retried = draw.random() < (0.5 if cancel_after else 0.06)
    what = draw.random()
    if what < 0.15 and earlier:
        # The same work for the same team: the two share one execution, or the second reuses the result.
        twin = draw.choice(earlier)
        beside = min(max(0.0, twin.at_seconds + draw.uniform(-2, 2)), seconds)
        values = {"at_seconds": beside, "cancel_after_seconds": cancel_after, "is_retried": is_retried}
        return PlannedJob(**{**vars(twin), **values, "name": name})
    recipe: dict[str, Any] = {"method": "chaos", "label": name, "seconds": draw.uniform(0.3, 4)}
    ends, deadline = SUCCEEDED, None
    if what < 0.23:
        recipe["crashes"] = draw.randint(1, 2)
    elif what < 0.28:
        recipe["act"], ends = "too_large", FAILED
    elif what < 0.33:
        recipe["act"], ends = "wrong", FAILED
    elif what < 0.36:
        recipe["seconds"], ends, deadline = 20.0, FAILED, 3
    elif what < 0.45:
        recipe["seconds"] = draw.uniform(6, 9)
    return PlannedJob(
        name=name,
        at_seconds=at_seconds,
        team=draw.randrange(TEAMS),
        model=draw.randrange(MODELS),
        recipe=recipe,
        pool=draw.choice(("cpu", "gpu", "gpu")),
        ends=ends,
        cancel_after_seconds=cancel_after,
        is_retried=is_retried,
        priority=draw.choice((0, 0, 0, 5, -5)),
        max_runtime_seconds=deadline,
    )
