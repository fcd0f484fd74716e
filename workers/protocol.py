"""What passes between a supervisor and its child.

Down: a JSON file that describes the work. Standard input of the child is a pipe that the supervisor holds open: when
it ends, the child's group dies. SIGTERM asks the child to save its work and leave. Up: JSON lines on file descriptor 3,
progress, measurements and what was saved as there is news; at the end what it has taken, and last one outcome or
failure, or that it has left. Standard output and error are the log.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ErrorDocument
from core.steps import EvaluationRow
from engines.context import Measurement, Progress
from pipeline.step_kind import Outcome

MESSAGES_FD = 3
SCRATCH_FULL = "The worker's scratch disk is full."
LINE_BYTES_MAX = 64 << 20  # a result holds the score of every window


@dataclass(frozen=True)
class ChildSpec:
    """The work of one child.

    Attributes:
        kind: the step kind.
        params: the execution's parameters.
        inputs: a folder for each input artifact.
        work: the same for each attempt at this work, and for no other.
        folder: the child's own folder, the only place it may write to beside ``kernels``.
        kernels: where what engines compile is kept for the next child.
        threads: CPU threads to use.
        device: ``cpu`` or ``cuda:N``.
        source_roots: folders that a fetch may read.
        publish_roots: folders under which results may be published.
        method_modules: modules that register further methods.
        code_execution: whether the operator allows that programs are run which a model has written.
    """

    kind: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    work: str
    folder: str
    kernels: str
    threads: int
    device: str
    source_roots: Sequence[str]
    publish_roots: Sequence[str]
    method_modules: Sequence[str]
    code_execution: bool = False

    @property
    def output(self) -> Path:
        """Where the child leaves its files."""
        return Path(self.folder, "output")

    @property
    def scratch(self) -> Path:
        """Where the child keeps what is temporary."""
        return Path(self.folder, "scratch")

    @property
    def checkpoint(self) -> Path:
        """What lets another attempt go on where this one had to leave, as the engine changes it."""
        return Path(self.folder, "checkpoint")

    def saved(self, number: int) -> Path:
        """What the checkpoint held when it was saved for the ``number``th time; links to its files."""
        return Path(self.folder, "saved", str(number))

    @property
    def log(self) -> Path:
        """What the child prints."""
        return Path(self.folder, "log")

    def write(self) -> Path:
        """Write the spec into the child's folder and return its path."""
        path = Path(self.folder, "spec.json")
        path.write_text(json.dumps(dataclasses.asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> "ChildSpec":
        """Return the spec written at ``path``."""
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True)
class Failure:
    """The child's last word when the work could not be done."""

    error: ErrorDocument


@dataclass(frozen=True)
class Saved:
    """The child has saved what lets another attempt go on, for the ``number``th time."""

    number: int


@dataclass(frozen=True)
class Taken:
    """The most that the child's own process has taken; None of what it cannot tell, or of a GPU where it used none."""

    peak_memory_bytes: int | None
    peak_vram_bytes: int | None


@dataclass(frozen=True)
class Left:
    """The child's last word when it had to leave."""


LastWord = Outcome | Failure | Left
Message = Progress | Measurement | Saved | Taken | LastWord

# The messages whose fields are in the line as they are.
_FLAT: Mapping[str, type[Progress | Measurement | Failure | Left]] = {
    kind.__name__: kind for kind in (Progress, Measurement, Failure, Left)
}


def encode(message: Message) -> bytes:
    """Return a message as one line. Postgres can hold no NUL and no lone surrogate, so both are replaced.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps({type(message).__name__: dataclasses.asdict(message)}, ensure_ascii=False, allow_nan=False)
    return text.replace("\\u0000", "\ufffd").encode("utf-8", "replace") + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of one line.

    Raises:
        ValueError: the line is no message.
    """
    try:
        ((name, fields),) = json.loads(line, parse_constant=_refuse_constant).items()
        if name in _FLAT:
            return _FLAT[name](**fields)
        if name == "Saved":
            return Saved(int(fields["number"]))
        if name == "Taken":
            return Taken(**{what: None if peak is None else int(peak) for what, peak in fields.items()})
        if name == "Outcome":
            rows = tuple(EvaluationRow(**row) for row in fields["evaluations"])
            return Outcome(facts=fields["facts"], evaluations=rows, warnings=fields["warnings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a message of a child: {line[:200]!r}") from error
    raise ValueError(f"not a message of a child: {line[:200]!r}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number that can be kept")
