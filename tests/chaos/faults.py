"""The faults: each waits until there is something for it to hit, hits it, and is noted once it has taken effect."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import redis

from server.embedded.child import Child
from tests.chaos.plan import PlannedFault
from tests.chaos.stack import SHUTDOWN_SECONDS, WORKERS, RunningChild, Stack
from tests.chaos.tasks import Task, Waiting, pause, until
from tests.chaos.witness import Witness
from tests.waiting import is_gone

STALL_SECONDS_MAX = 30.0
CHILD_SECONDS_MAX = 8.0  # that a stall lasts after its work was taken from it
LOOK_SECONDS = 0.3
BROKER_SECONDS = 2.0

T = TypeVar("T")


class Faults:
    """Strikes as planned, and counts.

    Args:
        stack: what is hit.
        witness: says whether a stalled worker's work was taken over.
        say: tells a person what is hit.
    """

    def __init__(self, stack: Stack, witness: Witness, say: Callable[[str], None]) -> None:
        self.struck: Counter[str] = Counter()
        self.hit_a_child: Counter[str] = Counter()  # whose target was a running child, or had one
        self.while_one_ran: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._stack = stack
        self._witness = witness
        self._say = say

    def tasks(self, planned: Iterable[PlannedFault]) -> list[Task]:
        """Return a task for each fault."""
        return [self._when_due(fault) for fault in planned]

    def note(self, kind: str, what: str, *, hit_a_child: bool = False) -> None:
        """Count a fault that has struck."""
        self.struck[kind] += 1
        self.hit_a_child[kind] += hit_a_child
        self.while_one_ran[kind] += hit_a_child or bool(self._stack.children())
        self._say(f"{kind}: {what}")

    def _when_due(self, fault: PlannedFault) -> Task:
        yield from pause(fault.at_seconds)
        strike = {
            "child": self._kill_child,
            "worker": self._kill_worker,
            "stall": self._stall,
            "preempt": self._preempt,
            "flush": self._flush,
            "api": self._kill_api,
        }.get(fault.kind, self._kill)
        yield from strike(fault)

    def _kill(self, fault: PlannedFault) -> Task:
        process = yield from self._running(fault.kind)
        self.note(fault.kind, "killed")
        self._stack.kill(fault.kind, process.pid)

    def _kill_api(self, fault: PlannedFault) -> Task:
        """Kill gunicorn's first process, or the one that answers."""
        process = yield from self._running("api")
        self.note("api", "killed")
        self._stack.kill("api", _chosen([process.pid, *self._stack.below(process.pid)], fault.draw))

    def _kill_child(self, fault: PlannedFault) -> Task:
        child, _ = yield from self._running_child(fault)
        self.note("child", f"killed that of {child.worker}", hit_a_child=True)
        self._stack.kill(child.worker, child.pid)

    def _kill_worker(self, fault: PlannedFault) -> Task:
        child, process = yield from self._running_child(fault)
        self.note("worker", f"killed {child.worker}", hit_a_child=True)
        self._stack.kill(child.worker, process.pid)

    def _preempt(self, fault: PlannedFault) -> Task:
        """Ask a worker to leave, as when its node is drained: it must end with 0, and in time."""
        child, process = yield from self._running_child(fault)
        self.note("preempt", f"asked {child.worker} to leave", hit_a_child=True)
        self._stack.held.add(child.worker)
        asked = time.monotonic()
        process.ask_to_stop()
        yield from until(lambda: process.status is not None or time.monotonic() - asked > SHUTDOWN_SECONDS)
        self._stack.held.discard(child.worker)
        if process.status != 0:
            self.complaints.append(
                f"{child.worker}, asked to leave, had status {process.status} after {time.monotonic() - asked:.1f} s"
            )
            self._stack.kill(child.worker, process.pid)

    def _stall(self, fault: PlannedFault) -> Task:
        """Stop a worker until its work was taken from it, and a while longer, then let it go on.

        Where nobody takes its work in time, as when rescue is hit, too, another one is stopped.
        """
        taken_over = False
        while not taken_over:
            child, process = yield from self._running_child(fault, alone=True)
            hit_at = time.monotonic()
            self._stack.held.add(child.worker)
            self._stack.signal(process.pid, signal.SIGSTOP)
            taken_over = yield from self._taken_over(child, hit_at + STALL_SECONDS_MAX)
            self._stack.signal(process.pid, signal.SIGCONT)
            self._stack.held.discard(child.worker)
            if taken_over:
                seconds = time.monotonic() - hit_at
                self.note("stall", f"{child.worker} stood still for {seconds:.1f} s", hit_a_child=True)

    def _taken_over(self, child: RunningChild, deadline: float) -> Waiting[bool]:
        """Wait until the work was taken from a worker, and then a while for another to hold it and its child to end."""
        while time.monotonic() < deadline:
            yield from pause(LOOK_SECONDS)
            lease = self._witness.lease(child.execution_id)
            if lease is not None and lease != ("running", child.token):
                yield from until(self._is_held_anew_or_late(child))
                return lease[0] in ("ready", "running")
        return False

    def _is_held_anew_or_late(self, child: RunningChild) -> Callable[[], bool]:
        deadline = time.monotonic() + CHILD_SECONDS_MAX

        def condition() -> bool:
            if time.monotonic() > deadline:
                return True
            lease = self._witness.lease(child.execution_id) if is_gone(child.pid) else None
            return lease is not None and lease[1] > child.token

        return condition

    def _flush(self, fault: PlannedFault) -> Task:
        while not self._flushed():
            yield from pause(LOOK_SECONDS)
        self.note("flush", "the broker has lost its data")

    def _flushed(self) -> bool:
        try:
            with redis.Redis.from_url(
                self._stack.broker.url, socket_timeout=BROKER_SECONDS, socket_connect_timeout=BROKER_SECONDS
            ) as broker:
                return bool(broker.flushall())
        except redis.RedisError:
            return False

    def _running(self, name: str) -> Waiting[Child]:
        """Wait for a process of the stack that runs."""
        while (process := self._stack.process(name)) is None:
            yield
        return process

    def _running_child(self, fault: PlannedFault, *, alone: bool = False) -> Waiting[tuple[RunningChild, Child]]:
        """Wait for a worker's child that runs, and return it with its worker.

        Args:
            fault: what looks for one.
            alone: take only a worker whose pool has another one that no fault has in its hands.
        """
        while True:
            children = self._stack.children()
            found = [child for child in children if not alone or self._has_a_second(child.worker)]
            if found:
                child = _chosen(found, fault.draw)
                # It may have been hit in this very moment, by another fault.
                if (process := self._stack.process(child.worker)) is not None:
                    return child, process
            yield

    def _has_a_second(self, worker: str) -> bool:
        pool = WORKERS[worker]
        return all(self._stack.process(name) is not None for name in WORKERS if WORKERS[name] == pool)


def _chosen(among: Sequence[T], draw: float) -> T:
    return among[int(draw * len(among))]
