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
    """An engine was asked to leave and has: what it needs to go on lies in its checkpoint folder."""


@dataclass(frozen=True)
class EngineContext:
    """The surroundings of one run.

    An engine that can be broken off asks ``must_leave`` now and then; when it must, it leaves in ``checkpoint`` all
    that it needs to go on and raises ``Suspended``. An engine that never asks is ended, and begins anew.

    Attributes:
        output: an empty folder; what is left there is the result.
        scratch: a folder for everything temporary.
        checkpoint: a folder with what an earlier attempt left there when it had to leave; empty at first.
        threads: CPU threads to use.
        device: ``cpu`` or ``cuda:N``, as torch names it.
        report: called with the progress, as often as the engine likes.
        measure: called with each module's measurements, once for each.
        must_leave: whether to save and leave, in some seconds.
    """

    output: Path
    scratch: Path
    checkpoint: Path
    threads: int
    device: str
    report: Callable[[Progress], None]
    measure: Callable[[Measurement], None]
    must_leave: Callable[[], bool]
