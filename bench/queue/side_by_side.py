"""The same work, done by fewbits and by what people would use instead, one after the other on the same servers."""

import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.queue.contenders.contender import SLOTS, Contender
from bench.queue.contenders.fewbits import Fewbits, FewbitsOfTwentyTeams
from bench.queue.contenders.pgqueuer_worker import PgqueuerOfTen, PgqueuerOfTwo
from bench.queue.contenders.plain_celery import PlainCelery
from bench.queue.contenders.procrastinate_worker import Procrastinate
from bench.queue.figures import Bound, Cell, Report, percentile
from bench.queue.machine import cpu_seconds
from bench.queue.marks import Marks
from bench.queue.place import Place
from server.embedded.child import wait_for

SECTION = "side by side"
CONTENDERS: Sequence[type[Contender]] = (
    *(Fewbits, FewbitsOfTwentyTeams),
    *(PlainCelery, Procrastinate, PgqueuerOfTwo, PgqueuerOfTen),
)
WARM_UPS = 20
SAMPLES = 250
PAUSE_SECONDS = (0.03, 0.06)  # of no fixed length, so that no loop of a contender's is met at one point
READY = 10_000
READY_BEFORE = 500  # drained before the clock starts
LOOK_SECONDS = 0.005
START_SECONDS = 60.0
DRAIN_SECONDS = 60.0  # what is slower is stopped then, and counted by what it has done
IDLE_P99_MS_MAX = 25.0
PARTS = ("worker", "dispatch", "postgres", "broker")


@dataclass(frozen=True)
class Measured:
    """What one contender came to.

    Attributes:
        latency_ms: from each commit to the start of its task, when nothing else runs.
        per_second: tasks done while many are ready.
        cpu_ms: CPU time for each of those, by what used it.
    """

    latency_ms: Sequence[float]
    per_second: float
    cpu_ms: Mapping[str, float]


def run(at: Place, report: Report) -> None:
    """Measure and print."""
    measured = {}
    for contender in CONTENDERS:
        report.progress(contender.name)
        measured[contender.name] = _measure(at, contender)
    rivals = measured[Procrastinate.name].per_second
    rows: dict[str, list[Cell]] = {}
    for contender in CONTENDERS:
        here = measured[contender.name]
        ours = issubclass(contender, Fewbits)
        p99, rate = percentile(here.latency_ms, 99), here.per_second
        rows[contender.name] = [
            statistics.median(here.latency_ms),
            (p99, Bound(at_most=IDLE_P99_MS_MAX)) if ours else p99,
            (rate, Bound(at_least=round(rivals, 1))) if ours else rate,
            *(here.cpu_ms.get(part, 0.0) for part in PARTS),
            sum(here.cpu_ms.values()),
        ]
    report.say(
        f"Work that does nothing, {SLOTS} tasks at once. Idle: {SAMPLES} tasks, one at a time, from the commit (for "
        f"Celery: the broker's answer)\nto the committed claim, in ms. Drained: {READY:,} tasks that are ready. "
        "CPU: ms for each of those tasks."
    )
    columns = ["idle p50", "idle p99", "drained /s", *(f"CPU {part}" for part in PARTS), "CPU all"]
    report.table(SECTION, columns, rows)
    for contender in CONTENDERS:
        if contender.note:
            report.say(f"  {contender.name}: {contender.note}.")
    report.say("  drained ≥: what procrastinate drained in this run.\n")


def _measure(at: Place, contender_type: type[Contender]) -> Measured:
    database = "contender"
    contender = contender_type(at, at.create_database(database))
    marks = Marks(at.folder / "marks")
    try:
        contender.prepare()
        latency_ms = _idle_latency_ms(contender, marks)
        return Measured(latency_ms, *_drain(contender, marks))
    finally:
        contender.close()
        marks.close()
        at.drop_database(database)


def _idle_latency_ms(contender: Contender, marks: Marks) -> Sequence[float]:
    def once() -> float:
        contender.submit()
        committed = time.monotonic()
        started = marks.next(START_SECONDS)
        time.sleep(random.uniform(*PAUSE_SECONDS))  # noqa: S311
        return (started - committed) * 1e3

    with contender.at.running(contender.commands(), contender.environment(marks.path)):
        for _ in range(WARM_UPS):
            once()
        return [once() for _ in range(SAMPLES)]


def _drain(contender: Contender, marks: Marks) -> tuple[float, Mapping[str, float]]:
    """Let a worker loose on what is ready; the clock starts when it is warm, and stops when all is done or it is time.

    Returns:
        tasks a second, and the CPU time of each in ms by what used it.
    """
    contender.fill(READY_BEFORE + READY)
    started = 0

    def have_started(count: int) -> bool:
        nonlocal started
        started += len(marks.take())
        return started >= count

    with contender.at.running(contender.commands(), contender.environment(marks.path)) as pids:
        every = {**pids, "postgres": contender.at.postgres_pid, "broker": contender.at.broker_pid}
        if not wait_for(lambda: have_started(READY_BEFORE), seconds=START_SECONDS, pause=_look):
            raise TimeoutError(f"{contender.name} did not start {READY_BEFORE} tasks within {START_SECONDS:g} s")
        began, used_before, started_before = time.monotonic(), _cpu(every), started
        wait_for(
            lambda: have_started(READY_BEFORE + READY) and contender.is_drained(), seconds=DRAIN_SECONDS, pause=_look
        )
        seconds, used, count = time.monotonic() - began, _cpu(every), started - started_before
    return count / seconds, {part: (used[part] - used_before[part]) / count * 1e3 for part in every}


def _cpu(pids: Mapping[str, int]) -> Mapping[str, float]:
    return {part: cpu_seconds(pid) for part, pid in pids.items()}


def _look(_seconds: float) -> None:
    time.sleep(LOOK_SECONDS)
