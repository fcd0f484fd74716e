"""Poison: work that kills its worker each time it runs, until the service holds it to be what it is."""

import contextlib

from server.embedded.child import Child
from tests.chaos.load import Load
from tests.chaos.plan import PlannedFault
from tests.chaos.scene import Scene
from tests.chaos.stack import RunningChild
from tests.chaos.steps import LET_GO
from tests.chaos.tasks import Task, pause, until
from tests.waiting import is_gone

LOOK_SECONDS = 0.3


class Poison:
    """Asks for poison, and lets it kill where nothing else would be blamed for it.

    Args:
        scene: what is broken.
        load: asks for it.
    """

    def __init__(self, scene: Scene, load: Load) -> None:
        self._at = scene
        self._load = load

    def strike(self, fault: PlannedFault) -> Task:
        """Let it kill worker after worker, until it is over."""
        (job,) = fault.jobs
        self._load.ask(fault.jobs)
        while not self._load.is_over(job.name):
            yield from pause(LOOK_SECONDS)
            execution_id = self._at.witness.execution(job.name)
            for child, worker in self._at.stack.at_work_on(execution_id):
                if not self._at.targets.must_live(worker):
                    yield from self._kill(job.name, child, worker)

    def _kill(self, name: str, child: RunningChild, worker: Child) -> Task:
        self._at.stack.held.add(child.worker)
        self._at.stack.expect_end(child.worker)
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            (child.folder / LET_GO).write_text(str(worker.pid))
        yield from until(lambda: worker.status is not None or is_gone(child.pid))
        self._at.stack.held.discard(child.worker)
        if worker.status is not None:
            self._at.tally.note("poison", f"{name} has killed {child.worker}", hit_a_child=True)
