"""What a fault can hit at the moment, and what it must spare.

The service holds that work over which ``DEATHS_MAX`` workers have died has killed them. So that this is said of poison
alone, nothing takes a worker down while other work runs on it over which all but one of so many have died already.
"""

from collections.abc import Sequence
from typing import TypeVar

from server.embedded.child import Child
from tests.chaos.stack import WORKERS, RunningChild, Stack
from tests.chaos.tasks import Waiting
from tests.chaos.witness import Witness

T = TypeVar("T")


class Targets:
    """Looks among what runs.

    Args:
        stack: what runs.
        witness: says over which work workers have died.
    """

    def __init__(self, stack: Stack, witness: Witness) -> None:
        self._stack = stack
        self._witness = witness
        self._marked: set[int] = set()

    def running(self, name: str) -> Waiting[Child]:
        """Wait for a process of the stack that runs."""
        while (process := self._stack.process(name)) is None:
            yield
        return process

    def running_child(
        self, draw: float, *, alone: bool = False, deadly: bool = False
    ) -> Waiting[tuple[RunningChild, Child]]:
        """Wait for a worker's child that runs, and return it with its worker.

        Args:
            draw: chooses, where there are several.
            alone: take only a worker whose pool has another one that no fault has in its hands.
            deadly: what the worker runs will count it as dead.
        """
        while True:
            found = [
                (child, process)
                for child in self._stack.children()
                # It may have been hit in this very moment, by another fault.
                if (process := self._stack.process(child.worker)) is not None
                and (not alone or self._has_a_second(child.worker))
            ]
            if deadly:
                found = [(child, process) for child, process in found if not self.must_live(process)]
            if found:
                return chosen(found, draw)
            yield

    def must_live(self, worker: Child) -> bool:
        """Return whether other work than poison on a worker has seen so many die that one more would be its end.

        While Postgres is away nothing is claimed, and what was so before is so still.
        """
        marked = self._witness.marked()
        if marked is not None:
            self._marked = marked
        return worker.pid in self._marked

    def _has_a_second(self, worker: str) -> bool:
        pool = WORKERS[worker]
        return all(self._stack.process(name) is not None for name in WORKERS if WORKERS[name] == pool)


def chosen(among: Sequence[T], draw: float) -> T:
    """Return the one that a number from 0 to 1 chooses."""
    return among[int(draw * len(among))]
