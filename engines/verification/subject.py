"""What is verified, and how far a number may be from its original."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.methods.base import Format

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Fault(Exception):
    """Something is not as it must be; the message says what and where."""


@dataclass(frozen=True)
class Subject:
    """A result and what it was made of.

    Attributes:
        written: the result's format.
        result: its folder.
        source: the snapshot.
        lossless: the folder with the lossless GGUF file that a GGUF result was made of; None for other formats.
        promises: what the recipe's method says that it will be like; see ``Method.promises``.
    """

    written: Format
    result: Path
    source: Path
    lossless: Path | None
    promises: Mapping[str, Any]


def error_bound(bits: float) -> float:
    """Return how large the error of a sound tensor may be, as a part of the tensor's norm.

    Rounding to ``bits`` bits leaves about ``2 ** (1 - bits)``. Four times that is allowed, since GPTQ gives up nearness
    of weights for nearness of answers, most where it has seen little text; never as much as a tensor of zeros has.

    Args:
        bits: for each weight, scales included.
    """
    return float(min(2 ** (3 - bits), 0.95))


def relative_error(found: "NDArray[np.float32]", original: "NDArray[np.float32]") -> float:
    """Return the norm of the difference as a part of the original's norm; NaN or infinite where a number is."""
    import numpy as np

    norm = float(np.linalg.norm(original))
    return float(np.linalg.norm(found - original)) / norm if norm else float(np.abs(found).max(initial=0.0))
