"""What a result has lost against full precision, on the same tokens of the same pieces of one text.

Figures are those of llama.cpp's llama-perplexity with ``--kl-divergence``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.intervals import CONFIDENCE, TOKENS_MIN, Bootstrap, Estimate, binomial, block_length, draws
from engines.scoring import ItemScore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PERPLEXITY_RATIO = "perplexity_ratio"  # the result's perplexity by full precision's: 1 where nothing is lost
KL_DIVERGENCE = "kl_divergence"  # the mean over all scored tokens, in nats
KL_DIVERGENCE_P99 = "kl_divergence_p99"  # what 99 of 100 tokens stay below
AGREEMENT = "agreement"  # the part of the tokens for which both find the same one likeliest
METRICS = (PERPLEXITY_RATIO, KL_DIVERGENCE, KL_DIVERGENCE_P99, AGREEMENT)

P99 = 0.99
LOST_MAX = 700.0  # nats; beyond, a ratio is no number any more

# From how often each piece is drawn, in an array of shape [draws, pieces], to the figure of each draw.
Figure = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]
# For each piece what was found of each of its tokens.
ByToken = Sequence["NDArray[np.float64]"] | Sequence["NDArray[np.bool_]"]


@dataclass(frozen=True)
class Drawn:
    """A metric as it was measured and on each draw of the bootstrap: an interval can be had at any confidence.

    Attributes:
        bootstrap: of the figure.
        same: how many tokens of how many agree, where it is a part of the tokens; else None.
    """

    bootstrap: Bootstrap
    same: tuple[int, int] | None = None

    def at(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the figure with its interval.

        A part of the tokens has none that is shorter than where each token were a draw of its own: where all that was
        looked at agrees, the bootstrap knows of nothing else.

        Args:
            confidence: in which part of all measurements the interval shall hold the true value.
        """
        found = self.bootstrap.at(confidence)
        if self.same is None or found.low is None or found.high is None:
            return found
        low, high = binomial(*self.same, confidence)
        return Estimate(found.value, min(found.low, low), max(found.high, high))


def draw(reference: Sequence[ItemScore], result: Sequence[ItemScore], *, in_order: bool) -> Mapping[str, Drawn]:
    """Return each metric, drawn once for intervals at several confidences.

    Args:
        reference: full precision's scores, of at least as many items.
        result: the result's scores; those with a divergence come first, and metrics of it go by them alone.
        in_order: whether each item follows on the one before it.
    """
    paired = list(zip(reference, result, strict=False))
    lost = [theirs.nll - ours.nll for ours, theirs in paired]
    same = [theirs.likeliest == ours.likeliest for ours, theirs in paired]
    divergences = [item.kl for item in result if item.kl is not None]
    agreeing = sum(int(values.sum()) for values in same), sum(len(values) for values in same)
    found = {
        PERPLEXITY_RATIO: Drawn(_bootstrap(_ratio(lost), lost, in_order)),
        AGREEMENT: Drawn(_bootstrap(_mean(same), same, in_order), agreeing),
    }
    if divergences:
        found[KL_DIVERGENCE] = Drawn(_bootstrap(_mean(divergences), divergences, in_order))
        found[KL_DIVERGENCE_P99] = Drawn(_bootstrap(_percentile(divergences), divergences, in_order))
    return {metric: found[metric] for metric in METRICS if metric in found}


def _bootstrap(figure: Figure, by_token: ByToken, in_order: bool) -> Bootstrap:
    import numpy as np

    pieces = len(by_token)
    value = float(figure(np.ones((1, pieces)))[0])
    if sum(len(values) for values in by_token) < TOKENS_MIN:
        return Bootstrap(value, None, 0)
    length = block_length(pieces, in_order=in_order)
    drawn = np.concatenate([figure(counts) for counts in draws(pieces, length)])
    return Bootstrap(value, drawn, pieces / length)


def _ratio(lost: "Sequence[NDArray[np.float64]]") -> Figure:
    import numpy as np

    mean = _mean(lost)
    return lambda counts: np.exp(np.minimum(mean(counts), LOST_MAX))


def _mean(by_token: ByToken) -> Figure:
    """Return the mean over all tokens of the pieces that are drawn."""
    import numpy as np

    sums = np.array([values.sum(dtype=np.float64) for values in by_token])
    lengths = np.array([len(values) for values in by_token], dtype=np.float64)

    def figure(counts: "NDArray[np.float64]") -> "NDArray[np.float64]":
        drawn: NDArray[np.float64] = (counts @ sums) / (counts @ lengths)
        return drawn

    return figure


def _percentile(by_token: "Sequence[NDArray[np.float64]]") -> Figure:
    """Return the value that a part ``P99`` of all tokens of the pieces that are drawn stays at or below."""
    import numpy as np

    lengths = np.array([len(values) for values in by_token], dtype=np.float64)
    values, pieces = np.concatenate(by_token), np.repeat(np.arange(len(by_token)), lengths.astype(int))
    # The largest decide: few draws, if any, look further than at four times as many as lie above it.
    largest = np.argsort(-values)[: max(1, round(4 * (1 - P99) * len(values)))]
    values, pieces = values[largest], pieces[largest]

    def figure(counts: "NDArray[np.float64]") -> "NDArray[np.float64]":
        above = np.cumsum(counts[:, pieces], axis=1)
        reached = above > (1 - P99) * (counts @ lengths)[:, None]
        found: NDArray[np.float64] = values[np.where(reached.any(axis=1), reached.argmax(axis=1), len(values) - 1)]
        return found

    return figure
