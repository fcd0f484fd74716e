"""What an engine is given: folders, a device, and a way to say how far it is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is.

    Attributes:
        done: units finished so far.
        total: units in all.
        unit: what is counted, in the plural: ``tensors``, ``windows``, ``bytes``.
        message: what is being done, for a person; may be empty.
    """

    done: float
    total: float
    unit: str
    message: str = ""


@dataclass(frozen=True)
class EngineContext:
    """The surroundings of one run.

    Attributes:
        output: an empty folder; what is left there is the result.
        scratch: a folder for everything temporary.
        threads: CPU threads to use.
        device: ``cpu`` or ``cuda:N``, as torch names it.
        report: called with the progress, as often as the engine likes.
    """

    output: Path
    scratch: Path
    threads: int
    device: str
    report: Callable[[Progress], None]
