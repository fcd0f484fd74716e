"""What everything that breaks the stack works with."""

from dataclasses import dataclass

from tests.chaos.stack import Stack
from tests.chaos.tally import Tally
from tests.chaos.targets import Targets
from tests.chaos.witness import Witness


@dataclass(frozen=True)
class Scene:
    """The stack that is hit, the witness of what the service does, the count of faults, and what can be hit."""

    stack: Stack
    witness: Witness
    tally: Tally
    targets: Targets
