"""How far a figure may be off that was measured on some pieces of a text: intervals by the bootstrap, in blocks.

Pieces that follow each other are alike, so blocks of them are drawn, ``n ** (1 / 3)`` long (Künsch 1989; Hall, Horowitz
and Jing 1995), around the end of the text to its beginning. Few blocks give intervals that are too short: as many
percentiles are taken as Student's t has there (the expanded percentile interval, Hesterberg 2015). Both models are
drawn together, piece by piece, so that what is common to them does not widen the interval of their difference.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95
DRAWS = 4000
DRAWS_AT_ONCE, PIECES_AT_ONCE = 250, 500_000  # some 100 MB
BLOCKS_MIN = 5  # with fewer nothing is said: the interval would be all there is
TOKENS_MIN = 1000  # likewise: what is lost in few places may be in none of those that were looked at
SEED = 20260401


@dataclass(frozen=True)
class Estimate:
    """A figure and the interval that holds its true value in a given part of all such measurements.

    Attributes:
        value: as measured.
        low: the interval's lower end; None where there were too few pieces to tell, as the next one.
        high: its upper end.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Bootstrap:
    """A figure as it was measured and on each draw, so that several intervals are had of the same draws.

    Attributes:
        value: as measured on all pieces.
        drawn: the same figure on each draw; None where too little was looked at to draw from.
        blocks: how many blocks a draw has.
    """

    value: float
    drawn: "NDArray[np.float64] | None"
    blocks: float

    def at(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the figure with its interval; see `estimate`."""
        if self.drawn is None:
            return Estimate(self.value, None, None)
        return estimate(self.value, self.drawn, self.blocks, confidence)


def block_length(pieces: int, *, in_order: bool) -> int:
    """Return how many pieces make a block.

    Args:
        pieces: how many there are.
        in_order: whether each follows on the one before it; documents that have nothing to do with each other do not.
    """
    return max(1, round(pieces ** (1 / 3))) if in_order else 1


def draws(pieces: int, length: int) -> "Iterator[NDArray[np.float64]]":
    """Yield how often each piece is drawn, in arrays of shape ``[draws, pieces]`` with ``DRAWS`` rows in all.

    The same for the same number of pieces, so that figures of one text vary together.

    Args:
        pieces: how many there are.
        length: of a block.
    """
    import numpy as np

    generator = np.random.default_rng(SEED)
    blocks = math.ceil(pieces / length)
    at_once = max(1, min(DRAWS_AT_ONCE, PIECES_AT_ONCE // pieces))
    for begin in range(0, DRAWS, at_once):
        rows = min(at_once, DRAWS - begin)
        starts = generator.integers(pieces, size=(rows, blocks, 1))
        drawn = ((starts + np.arange(length)) % pieces).reshape(rows, -1)[:, :pieces]
        numbered = drawn + pieces * np.arange(rows)[:, None]
        yield np.bincount(numbered.ravel(), minlength=rows * pieces).reshape(rows, pieces).astype(np.float64)


def estimate(value: float, drawn: "NDArray[np.float64]", blocks: float, confidence: float = CONFIDENCE) -> Estimate:
    """Return a figure with its interval.

    Args:
        value: as measured on all pieces.
        drawn: the same figure on each draw.
        blocks: how many blocks a draw has.
        confidence: in which part of all measurements the interval shall hold the true value.
    """
    import numpy as np
    from scipy import special

    if blocks < BLOCKS_MIN:
        return Estimate(value, None, None)
    t = special.stdtrit(blocks - 1, (1 - confidence) / 2)
    tail = special.ndtr(t * math.sqrt(blocks / (blocks - 1)))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def binomial(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the ends of the interval of a part, ``count`` of ``total`` draws (Clopper and Pearson 1934)."""
    from scipy import special

    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(special.betaincinv(count, total - count + 1, tail))
    high = 1.0 if count == total else float(special.betaincinv(count + 1, total - count, 1 - tail))
    return low, high
