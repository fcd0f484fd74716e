"""Real quantizations that are preempted once a layer is done, and go on elsewhere."""

from tests.chaos.faults import asked_to_leave
from tests.chaos.load import Load
from tests.chaos.plan import PlannedFault
from tests.chaos.scene import Scene
from tests.chaos.tasks import Task, pause

LOOK_SECONDS = 0.1
KEPT = "SELECT 1 FROM checkpoint_files WHERE execution_id = %s LIMIT 1"


class Preemption:
    """Asks for a quantization, and has its worker leave.

    Args:
        scene: what is broken.
        load: asks for it.
    """

    def __init__(self, scene: Scene, load: Load) -> None:
        self._at = scene
        self._load = load

    def strike(self, fault: PlannedFault) -> Task:
        """Wait until a layer is kept, and preempt; what has ended before cannot be hit."""
        (job,) = fault.jobs
        self._load.ask(fault.jobs)
        while not self._load.is_over(job.name):
            yield from pause(LOOK_SECONDS)
            execution_id = self._at.witness.execution(job.name)
            if execution_id is not None and self._at.witness.ask(KEPT, execution_id):
                for child, worker in self._at.stack.at_work_on(execution_id):
                    yield from asked_to_leave(self._at, fault.kind, child, worker)
                    return
