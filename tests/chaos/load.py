"""The people of a run: they ask for the planned jobs, cancel some, ask for some again, and keep what they were told."""

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.chaos.door import Door, Refused, Unanswered
from tests.chaos.plan import BURST, PlannedJob
from tests.chaos.tasks import Task, Waiting, elsewhere, pause, step, until

THREADS = 32
FILLER_SECONDS = 6.0


@dataclass
class Accepted:
    """A job that the service has accepted.

    Attributes:
        planned: what was asked for.
        ends: the statuses in which it may end.
    """

    planned: PlannedJob
    ends: frozenset[str]


class Load:
    """Asks through a door.

    Args:
        door: where to ask.
        note_burst: told of each burst of identical requests that was answered.
    """

    def __init__(self, door: Door, note_burst: Callable[[str], None]) -> None:
        self.accepted: dict[str, Accepted] = {}
        self.people: list[Task] = []  # who have not got all that they want
        self.over: set[str] = set()  # the jobs that are known to have ended; whoever looks keeps it up to date
        self.refusals: list[str] = []
        self._door = door
        self._note_burst = note_burst
        self._executor = ThreadPoolExecutor(THREADS)
        self._fillers = itertools.count()

    def ask(self, planned: Iterable[PlannedJob]) -> None:
        """Have people ask for jobs, each when it is due, counted from now."""
        self.people += [self._life(job) for job in planned]

    def go_on(self) -> None:
        """Let everybody do what can be done now."""
        self.people = step(self.people)

    def is_over(self, name: str) -> bool:
        """Return whether a job of that name has been accepted and has ended."""
        return any(self.accepted[job_id].planned.name == name for job_id in self.over if job_id in self.accepted)

    def fill(self) -> None:
        """Ask for one more job: something for a fault to hit when all else is over."""
        name = f"filler-{next(self._fillers)}"
        recipe = {"method": "chaos", "label": name, "seconds": FILLER_SECONDS}
        self.ask([PlannedJob(name, 0.0, team=0, model=0, recipe=recipe, pool="cpu")])

    def close(self) -> None:
        """Wait for nobody any more."""
        self._door.close()
        self._executor.shutdown(cancel_futures=True)

    def _life(self, job: PlannedJob) -> Task:
        yield from pause(job.at_seconds)
        try:
            first = yield from self._ask(job, lambda: self._door.submit(job))
            yield from self._cancel(job, first)
            if job.is_retried:
                yield from until(lambda: first in self.over)
                yield from self._ask(job, lambda: self._door.retry(job, first))
        except Refused as refusal:
            self.refusals.append(str(refusal))
        except Unanswered:
            return

    def _ask(self, job: PlannedJob, ask: Callable[[], set[str]]) -> Waiting[str]:
        ids = yield from elsewhere(self._executor, ask)
        for job_id in ids:
            self.accepted[job_id] = Accepted(job, job.ends)
        if job.sends == BURST:
            self._note_burst(f"{BURST} requests at once for {job.name}")
        return min(ids)

    def _cancel(self, job: PlannedJob, job_id: str) -> Task:
        if job.cancel_after_seconds is None:
            return
        accepted = self.accepted[job_id]
        yield from pause(job.cancel_after_seconds)
        accepted.ends = job.ends | {"cancelled"}  # as long as there is no answer, either may be
        is_cancelled = yield from elsewhere(self._executor, self._door.cancel, job, job_id)
        accepted.ends = frozenset({"cancelled"}) if is_cancelled else job.ends
