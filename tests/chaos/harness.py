"""One run: start the stack, break it as planned while people use it, let it come to rest, and judge."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.embedded.child import wait_for
from tests.chaos import verdict
from tests.chaos.door import Door
from tests.chaos.faults import Faults
from tests.chaos.load import Load
from tests.chaos.operator import Operator
from tests.chaos.plan import FAULTS, FULL_JOBS, KILLS, MODELS, NEED_A_CHILD, Plan
from tests.chaos.poison import Poison
from tests.chaos.preemption import Preemption
from tests.chaos.scene import Scene
from tests.chaos.stack import FEWBITSD, Stack
from tests.chaos.tally import Tally
from tests.chaos.targets import Targets
from tests.chaos.tasks import step
from tests.chaos.verdict import Findings
from tests.chaos.witness import Witness
from tests.conftest import TINY_LLAMA

TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0
END_SECONDS = 300.0  # after the last fault, for all that is still to be done
SETTLE_SECONDS = 45.0  # for rescue to collect what was abandoned
KILLS_MIN = 40
FAULTS_MIN = 5
HITS_MIN = 20

Say = Callable[[str], None]
Enough = Callable[[Witness], bool]


@dataclass(frozen=True)
class Report:
    """What a run did and what it found."""

    seed: int
    jobs: int
    faults: Tally
    findings: Findings
    complaints: Sequence[str]
    seconds: float

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(self.faults.struck[kind] for kind in KILLS)

    @property
    def hits(self) -> int:
        """How many faults hit a running child."""
        return self.faults.hit_a_child.total()

    def broken_promises(self) -> list[str]:
        """Return what is not as it must be; a run with fewer jobs than a full one need not have as many faults."""
        broken = [f"{count} {name}" for name, count in self.findings.counts().items() if count]
        broken += self.complaints
        if self.jobs >= FULL_JOBS:
            broken += [f"only {self.kills} kills"] * (self.kills < KILLS_MIN)
            broken += [f"only {self.hits} faults hit a running child"] * (self.hits < HITS_MIN)
            broken += [
                f"only {self.faults.struck[kind]} of {kind}" for kind in FAULTS if self.faults.struck[kind] < FAULTS_MIN
            ]
        return broken

    def summary(self) -> dict[str, float]:
        """Return the last line."""
        return {
            "seed": self.seed,
            "jobs": self.jobs,
            "kills": self.kills,
            "stalls": self.faults.struck["stall"],
            "broker_flushes": self.faults.struck["flush"],
            **self.findings.counts(),
            "seconds": round(self.seconds, 1),
        }


class Harness:
    """One stack and what is done to it.

    Args:
        plan: what to do.
        folder: an empty folder for everything.
        say: tells a person what happens.
        program: what is run in the place of ``fewbitsd``.
    """

    def __init__(self, plan: Plan, folder: Path, say: Say, program: Sequence[str] = FEWBITSD) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._say: Say = lambda text: say(f"{time.monotonic() - self._began:6.1f} s  {text}")
        self._stack = Stack(folder, program, self._say)
        self._witness = Witness(self._stack.postgres.url)
        self._tally = Tally(self._stack, self._say)
        self._door = Door(self._stack.url, self._stack.postgres.url, self._stack.models)
        self._load = Load(self._door, lambda what: self._tally.note("repeat", what))
        scene = Scene(self._stack, self._witness, self._tally, Targets(self._stack, self._witness))
        self._operator = Operator(scene, self._load, self._door)
        others = {**self._operator.strikes, "poison": Poison(scene, self._load).strike}
        others["resume"] = Preemption(scene, self._load).strike
        self._faults = Faults(scene, others)
        self._looked_at = 0.0

    def run(self, enough: Enough | None = None) -> Report:
        """Do all that is planned and return what came of it.

        Args:
            enough: asked now and then; the run is broken off, and judged as it is, when it says so.
        """
        try:
            _copy_models(self._stack.models)
            self._stack.start(self._prepare)
            self._say(f"the stack is ready; seed {self._plan.seed}, {len(self._plan.jobs)} jobs")
            if self._strike(enough):
                self._come_to_rest()
            findings = verdict.judge(self._witness, self._load.accepted, self._stack)
        finally:
            self._load.close()
            self._operator.close()
            self._witness.close()
            self._stack.stop()
        findings.orphans += [f"process {process.pid} after the end" for process in self._stack.offspring()]
        return Report(
            self._plan.seed,
            len(self._load.accepted),
            self._tally,
            findings,
            [*self._tally.complaints, *self._load.refusals],
            time.monotonic() - self._began,
        )

    def _prepare(self) -> None:
        self._witness.install()
        self._door.open()

    def _strike(self, enough: Enough | None) -> bool:
        """Let jobs and faults come; return whether all came."""
        self._load.ask(self._plan.jobs)
        strikes = self._faults.tasks(self._plan.faults)
        while self._load.people or strikes:
            self._tick()
            self._load.go_on()
            strikes = step(strikes)
            if time.monotonic() - self._looked_at < LOOK_SECONDS:
                continue
            self._look()
            if strikes and not self._load.people and self._is_idle():
                self._load.fill()
            if enough is not None and enough(self._witness):
                return False
        return True

    def _come_to_rest(self) -> None:
        self._say("all faults have struck; waiting for the end of all jobs")
        if not self._holds(lambda: self._stack.is_up() and self._is_idle(), END_SECONDS):
            self._say("not all has come to its end")
            return
        self._say("all jobs are over; waiting for what is to be cleaned up")
        self._holds(lambda: not verdict.orphans(self._witness, self._stack), SETTLE_SECONDS)

    def _holds(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Tend the stack until a condition holds; return whether it did in time."""

        def looked() -> bool:
            self._tick()
            if time.monotonic() - self._looked_at < LOOK_SECONDS:
                return False
            self._look()
            with suppress(ConnectionError):  # Postgres is just starting again
                return condition()
            return False

        return wait_for(looked, seconds=seconds)

    def _tick(self) -> None:
        self._stack.tend()
        time.sleep(TICK_SECONDS)

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        over = self._witness.over()
        if over is not None:
            self._load.over |= over

    def _is_idle(self) -> bool:
        return self._witness.ask(verdict.OPEN) == []


def table(faults: Tally) -> str:
    """Return the faults that have struck, by kind."""
    lines = [f"{'fault':<10} {'struck':>6} {'hit a running child':>20} {'while one ran':>14}"]
    lines += [
        f"{kind:<10} {faults.struck[kind]:>6} "
        f"{faults.hit_a_child[kind] if kind in NEED_A_CHILD else '-':>20} {faults.while_one_ran[kind]:>14}"
        for kind in FAULTS
    ]
    return "\n".join(lines)


def _copy_models(folder: Path) -> None:
    """Make models that differ in one file, so that what is made of each has a key of its own."""
    for number in range(MODELS):
        copy = Path(shutil.copytree(TINY_LLAMA, folder / str(number)))
        with (copy / "README.md").open("a") as readme:
            readme.write(f"\nCopy {number}.\n")
