"""What an engine is given: folders, a device, and a way to say how far it is and what it has measured."""

from collections.abc import Callable, Mapping
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
class Measurement:
    """What was found out about one module while it was worked on.

    Attributes:
        layer: number of the decoder layer, from 0.
        module: name within the layer, such as ``self_attn.q_proj``.
        values: by name, all finite, such as ``loss``.
    """

    layer: int
    module: str
    values: Mapping[str, float]


class Suspended(Exception):
    """An engine was asked to leave and has, once it had saved what it needs to go on."""


@dataclass(frozen=True)
class EngineContext:
    """The surroundings of one run.

    An engine that can be broken off keeps in ``checkpoint`` all that it needs to go on, and calls ``save`` when that is
    more than before. It asks ``must_leave`` now and then; when it must, it saves and raises ``Suspended``. One that
    never asks is ended, and goes on from what it has saved, if anything.

    Attributes:
        output: an empty folder; what is left there is the result.
        scratch: a folder for everything temporary.
        checkpoint: a folder with what was last saved of an earlier attempt; empty at first. Files there are put in
            place whole and taken away, never written to: what is saved is stored while the work goes on.
        work: the same for each attempt at a piece of work, and for no other.
        threads: CPU threads to use.
        device: ``cpu`` or ``cuda:N``, as torch names it.
        report: called with the progress, as often as the engine likes.
        measure: called with each module's measurements, once for each.
        recall: called with those that an earlier attempt has measured, of work that is not done again.
        save: has what ``checkpoint`` holds kept for another attempt, in place of what was saved before.
        must_leave: whether to save and leave, in some seconds.
        code_execution: whether the operator allows that programs are run which a model has written.
    """

    output: Path
    scratch: Path
    checkpoint: Path
    work: str
    threads: int
    device: str
    report: Callable[[Progress], None]
    measure: Callable[[Measurement], None]
    recall: Callable[[Measurement], None]
    save: Callable[[], None]
    must_leave: Callable[[], bool]
    code_execution: bool = False
