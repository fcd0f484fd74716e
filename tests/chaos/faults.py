"""The faults: each waits until there is something for it to hit, hits it, and is noted once it has taken effect."""

import signal
import time
from collections.abc import Callable, Iterable, Mapping

import redis

from server.embedded.child import Child
from tests.chaos.plan import PlannedFault
from tests.chaos.scene import Scene
from tests.chaos.stack import SHUTDOWN_SECONDS, RunningChild
from tests.chaos.targets import chosen
from tests.chaos.tasks import Task, Waiting, pause, until
from tests.waiting import is_gone

STALL_SECONDS_MAX = 30.0
CHILD_SECONDS_MAX = 8.0  # that a stall lasts after its work was taken from it
LOOK_SECONDS = 0.3
BROKER_SECONDS = 2.0

Strike = Callable[[PlannedFault], Task]


class Faults:
    """Strikes as planned.

    Args:
        scene: what is broken.
        others: by kind, the faults that are not done here.
    """

    def __init__(self, scene: Scene, others: Mapping[str, Strike]) -> None:
        self._at = scene
        self._others = others

    def tasks(self, planned: Iterable[PlannedFault]) -> list[Task]:
        """Return a task for each fault."""
        return [self._when_due(fault) for fault in planned]

    def _when_due(self, fault: PlannedFault) -> Task:
        yield from pause(fault.at_seconds)
        strike = {
            "child": self._kill_child,
            "worker": self._kill_worker,
            "stall": self._stall,
            "preempt": self._preempt,
            "flush": self._flush,
            "api": self._kill_api,
            **self._others,
        }.get(fault.kind, self._kill)
        yield from strike(fault)

    def _kill(self, fault: PlannedFault) -> Task:
        process = yield from self._at.targets.running(fault.kind)
        self._at.tally.note(fault.kind, "killed")
        self._at.stack.kill(fault.kind, process.pid)

    def _kill_api(self, fault: PlannedFault) -> Task:
        """Kill gunicorn's first process, or the one that answers."""
        process = yield from self._at.targets.running("api")
        self._at.tally.note("api", "killed")
        self._at.stack.kill("api", chosen([process.pid, *self._at.stack.below(process.pid)], fault.draw))

    def _kill_child(self, fault: PlannedFault) -> Task:
        child, _ = yield from self._at.targets.running_child(fault.draw)
        self._at.tally.note("child", f"killed that of {child.worker}", hit_a_child=True)
        self._at.stack.kill(child.worker, child.pid)

    def _kill_worker(self, fault: PlannedFault) -> Task:
        child, process = yield from self._at.targets.running_child(fault.draw, deadly=True)
        self._at.tally.note("worker", f"killed {child.worker}", hit_a_child=True)
        self._at.stack.kill(child.worker, process.pid)

    def _preempt(self, fault: PlannedFault) -> Task:
        """Ask a worker to leave, as when its node is drained."""
        child, process = yield from self._at.targets.running_child(fault.draw)
        yield from asked_to_leave(self._at, fault.kind, child, process)

    def _stall(self, fault: PlannedFault) -> Task:
        """Stop a worker until its work was taken from it, and a while longer, then let it go on.

        Where nobody takes its work in time, as when rescue is hit, too, another one is stopped.
        """
        taken_over = False
        while not taken_over:
            child, process = yield from self._at.targets.running_child(fault.draw, alone=True, deadly=True)
            hit_at = time.monotonic()
            self._at.stack.held.add(child.worker)
            self._at.stack.signal(process.pid, signal.SIGSTOP)
            taken_over = yield from self._taken_over(child, hit_at + STALL_SECONDS_MAX)
            self._at.stack.signal(process.pid, signal.SIGCONT)
            self._at.stack.held.discard(child.worker)
            if taken_over:
                seconds = time.monotonic() - hit_at
                self._at.tally.note("stall", f"{child.worker} stood still for {seconds:.1f} s", hit_a_child=True)

    def _taken_over(self, child: RunningChild, deadline: float) -> Waiting[bool]:
        """Wait until the work was taken from a worker, and then a while for another to hold it and its child to end."""
        while time.monotonic() < deadline:
            yield from pause(LOOK_SECONDS)
            lease = self._at.witness.lease(child.execution_id)
            if lease is not None and lease != ("running", child.token):
                yield from until(self._is_held_anew_or_late(child))
                return lease[0] in ("ready", "running")
        return False

    def _is_held_anew_or_late(self, child: RunningChild) -> Callable[[], bool]:
        deadline = time.monotonic() + CHILD_SECONDS_MAX

        def condition() -> bool:
            if time.monotonic() > deadline:
                return True
            lease = self._at.witness.lease(child.execution_id) if is_gone(child.pid) else None
            return lease is not None and lease[1] > child.token

        return condition

    def _flush(self, fault: PlannedFault) -> Task:
        while not self._flushed():
            yield from pause(LOOK_SECONDS)
        self._at.tally.note("flush", "the broker has lost its data")

    def _flushed(self) -> bool:
        try:
            with redis.Redis.from_url(
                self._at.stack.broker.url, socket_timeout=BROKER_SECONDS, socket_connect_timeout=BROKER_SECONDS
            ) as broker:
                return bool(broker.flushall())
        except redis.RedisError:
            return False


def asked_to_leave(at: Scene, kind: str, child: RunningChild, worker: Child) -> Task:
    """Ask the worker of a child to leave: it must end with 0, and in time."""
    at.tally.note(kind, f"asked {child.worker} to leave", hit_a_child=True)
    at.stack.held.add(child.worker)
    asked = time.monotonic()
    worker.ask_to_stop()
    yield from until(lambda: worker.status is not None or time.monotonic() - asked > SHUTDOWN_SECONDS)
    at.stack.held.discard(child.worker)
    if worker.status != 0:
        at.tally.complaints.append(
            f"{child.worker}, asked to leave, had status {worker.status} after {time.monotonic() - asked:.1f} s"
        )
        at.stack.kill(child.worker, worker.pid)
