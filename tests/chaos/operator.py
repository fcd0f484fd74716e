"""The operator of a run: pauses pools, drains workers, limits teams by the commands of ``fewbitsd``, and takes it back.

Each order is noted in the database once its command is done, and its end before the command that takes it back, so that
what began in between must have obeyed. An order counts once it has held something up.
"""

import itertools
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from db.states import Quota
from tests.chaos.door import Door, team_name
from tests.chaos.faults import Strike
from tests.chaos.load import Load
from tests.chaos.plan import PlannedFault
from tests.chaos.scene import Scene
from tests.chaos.stack import WORKERS
from tests.chaos.tasks import Task, Waiting, elsewhere, pause, until
from tests.chaos.witness import Order

LOOK_SECONDS = 0.3
HELD_UP_SECONDS_MAX = 15.0
FINISH_SECONDS_MAX = 60.0
TURNED_AWAY_SECONDS_MAX = 20.0
RUNNING_MAX, QUEUED_MAX = 1, 1
READY = """
    SELECT count(*) FROM executions WHERE status = 'ready' AND pool = %s AND ready_at <= clock_timestamp()
"""
# Poison is left out: it ends only with its worker, which nothing hits while it is drained.
RUNS = """
    SELECT count(*) FROM executions
    WHERE status = 'running' AND worker_id = %s AND params #>> '{recipe,act}' IS DISTINCT FROM 'poison'
"""


class Operator:
    """Gives orders.

    Args:
        scene: what is broken.
        load: asks for what a limit is to hold up.
        door: knows who was turned away.
    """

    def __init__(self, scene: Scene, load: Load, door: Door) -> None:
        self._at = scene
        self._load = load
        self._door = door
        self._executor = ThreadPoolExecutor()
        self._numbers = itertools.count()
        self._subjects: set[str] = set()  # of the orders that hold now: one at a time of each

    @property
    def strikes(self) -> Mapping[str, Strike]:
        """What is done for each kind of fault."""
        return {"pause": self._pause, "drain": self._drain, "quota": self._limit}

    def close(self) -> None:
        """Wait for the commands that run."""
        self._executor.shutdown(cancel_futures=True)

    def _pause(self, fault: PlannedFault) -> Task:
        """Pause a pool that is at work; where nothing came to wait in it meanwhile, another time."""
        waiting = 0
        while not waiting:
            child, _ = yield from self._at.targets.running_child(fault.draw)
            pool = WORKERS[child.worker]
            yield from self._enter(pool)
            order = self._order("paused", pool)
            yield from self._tell("pools", "pause", pool)
            yield from self._note(order)
            waiting = yield from self._held_up(pool, fault.seconds)
            yield from self._note_end(order)
            yield from self._tell("pools", "resume", pool)
            self._subjects.discard(pool)
        self._at.tally.note("pause", f"the {pool} pool, while {waiting} executions were ready")

    def _held_up(self, pool: str, seconds: float) -> Waiting[int]:
        """Wait, longer if nothing is ready in a pool; return how much was at most."""
        began, most = time.monotonic(), 0
        while (gone := time.monotonic() - began) < seconds or (not most and gone < HELD_UP_SECONDS_MAX):
            yield from pause(LOOK_SECONDS)
            rows = self._at.witness.ask(READY, pool)
            most = max(most, rows[0][0] if rows else 0)
        return most

    def _drain(self, fault: PlannedFault) -> Task:
        """Drain a worker that is at work, at least until it has finished that; nothing hits it meanwhile."""
        child, process = yield from self._at.targets.running_child(fault.draw, alone=True)
        self._at.stack.held.add(child.worker)
        while (worker_id := self._at.witness.worker(process.pid)) is None:
            yield
        order = self._order("drained", worker_id)
        yield from self._tell("workers", "drain", worker_id)
        yield from self._note(order)
        began = time.monotonic()
        yield from pause(fault.seconds)
        late = began + FINISH_SECONDS_MAX
        yield from until(lambda: self._has_finished(worker_id) or time.monotonic() > late)
        if time.monotonic() > late:
            self._at.tally.complaints.append(
                f"{child.worker}, drained, still ran something after {FINISH_SECONDS_MAX} s"
            )
        self._at.tally.note("drain", f"{child.worker}, for {time.monotonic() - began:.1f} s", hit_a_child=True)
        yield from self._note_end(order)
        yield from self._tell("workers", "undrain", worker_id)
        self._at.stack.held.discard(child.worker)

    def _has_finished(self, worker_id: str) -> bool:
        rows = self._at.witness.ask(RUNS, worker_id)
        return rows is not None and rows[0][0] == 0

    def _limit(self, fault: PlannedFault) -> Task:
        """Let a team queue and run little while it asks for much, until the API has turned it away."""
        team, pool = fault.jobs[0].team, next(job.pool for job in fault.jobs if job.pool is not None)
        name, team_id = team_name(team), self._door.team_id(team)
        yield from self._enter(name)
        limits = {Quota(f"running_{pool}"): RUNNING_MAX, Quota.QUEUED_JOBS: QUEUED_MAX}
        for quota, maximum in limits.items():
            yield from self._tell("quotas", "set", name, quota.value, str(maximum))
        orders = [
            self._order("limited", team_id, pool, RUNNING_MAX),
            self._order("limited", team_id, None, QUEUED_MAX),
        ]
        for order in orders:
            yield from self._note(order)
        yield from self._turned_away(fault, team)
        for order in orders:
            yield from self._note_end(order)
        for quota in limits:
            yield from self._tell("quotas", "set", name, quota.value, "default")
        self._subjects.discard(name)

    def _turned_away(self, fault: PlannedFault, team: int) -> Task:
        before, began = self._door.turned_away.count(team), time.monotonic()
        self._load.ask(fault.jobs)
        yield from pause(fault.seconds)
        late = began + TURNED_AWAY_SECONDS_MAX
        yield from until(lambda: self._door.turned_away.count(team) > before or time.monotonic() > late)
        count = self._door.turned_away.count(team) - before
        if count:
            self._at.tally.note("quota", f"{team_name(team)} was turned away {count} times")
        else:
            self._at.tally.complaints.append(
                f"{team_name(team)} could queue {QUEUED_MAX} job, and was never turned away"
            )

    def _order(self, what: str, subject: str, pool: str | None = None, maximum: int | None = None) -> Order:
        return Order(f"{what}-{next(self._numbers)}", what, subject, pool, maximum)

    def _note(self, order: Order) -> Task:
        yield from until(lambda: self._at.witness.ordered(order))

    def _note_end(self, order: Order) -> Task:
        yield from until(lambda: self._at.witness.ends(order))

    def _enter(self, subject: str) -> Task:
        yield from until(lambda: subject not in self._subjects)
        self._subjects.add(subject)

    def _tell(self, *arguments: str) -> Task:
        """Run a command until it is done."""
        while not (yield from elsewhere(self._executor, self._at.stack.operate, *arguments)):
            yield from pause(LOOK_SECONDS)
