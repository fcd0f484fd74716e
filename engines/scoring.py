"""What a model's logits say of the tokens of an item, alone and beside those of full precision.

Probabilities are of a float32 softmax; logarithms are natural, so that what is summed is in nats.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import ModelUnsupported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

THREADS_MAX = 8  # with more of them, waiting for Python costs more than they bring
LOG_FLOOR = -1e4  # nats; what a model rules out has no logarithm, and float16 ends at 65,504


@dataclass(frozen=True)
class ItemScore:
    """What a model says of the scored tokens of one item; each array has one number for each of them.

    Attributes:
        nll: negative log-likelihood of the token that is there, in nats; float64.
        likeliest: the id of the token that the model finds likeliest; int32.
        kl: the Kullback-Leibler divergence of the model from full precision, in nats; float64. None where full
            precision's probabilities are not known.
    """

    nll: "NDArray[np.float64]"
    likeliest: "NDArray[np.int32]"
    kl: "NDArray[np.float64] | None" = None


def score(
    logits: "NDArray[np.float32]",
    targets: Sequence[int],
    reference: "NDArray[np.float16] | None" = None,
    threads: int = 1,
) -> ItemScore:
    """Return what a model's logits say.

    Args:
        logits: of shape ``[len(targets), vocabulary]``; each row predicts one target.
        targets: the tokens that are there.
        reference: full precision's log-probabilities, as ``log_probabilities`` gives them. Where the two vocabularies
            differ in padding, what both have is compared.
        threads: of the CPU.

    Raises:
        ModelUnsupported: a token has no logit, or what comes of one is not finite.
    """
    import numpy as np

    if max(targets) >= logits.shape[1]:
        raise ModelUnsupported(f"The tokenizer gives id {max(targets)}, and the model knows {logits.shape[1]} tokens.")
    nll = np.empty(len(targets))
    kl = None if reference is None else np.empty(len(targets))

    def score_row(row: int) -> None:
        shifted, normalizer = _normalize(logits[row])
        nll[row] = normalizer - shifted[targets[row]]
        if reference is not None and kl is not None:
            kl[row] = _divergence(reference[row], _floored(shifted, normalizer))

    _for_each(len(targets), score_row, threads)
    if not np.isfinite(nll).all():
        raise ModelUnsupported("The model's logits are not finite: its weights hold NaN, or overflow in this format.")
    return ItemScore(nll, logits.argmax(axis=1).astype(np.int32), kl)


def log_probabilities(logits: "NDArray[np.float32]", threads: int = 1) -> "NDArray[np.float16]":
    """Return the logarithms of all probabilities, as they are kept to be compared with: 11 bits of each count."""
    import numpy as np

    kept = np.empty(logits.shape, dtype=np.float16)

    def keep_row(row: int) -> None:
        kept[row] = _floored(*_normalize(logits[row]))

    _for_each(len(logits), keep_row, threads)
    return kept


def _for_each(count: int, do: Callable[[int], None], threads: int) -> None:
    """Do something with each row: one at a time lies in a processor's cache, and NumPy leaves threads to each other."""
    import numpy as np

    def do_every(first: int) -> None:
        with np.errstate(invalid="ignore"):  # what is not finite is told of by whoever asked
            for row in range(first, count, workers):
                do(row)

    workers = min(threads, THREADS_MAX)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(do_every, range(workers)))


def _normalize(logits: "NDArray[np.float32]") -> "tuple[NDArray[np.float32], np.float64]":
    """Return a row's logits moved so that the largest is 0, and the logarithm of the sum of their exponentials."""
    import numpy as np

    shifted = logits - logits.max()
    # The sum over a large vocabulary loses digits in float32, so it alone is made in float64.
    return shifted, np.log(np.exp(shifted).sum(dtype=np.float64))


def _floored(shifted: "NDArray[np.float32]", normalizer: "np.float64") -> "NDArray[np.float32]":
    import numpy as np

    logarithms: NDArray[np.float32] = np.maximum(shifted - np.float32(normalizer), np.float32(LOG_FLOOR))
    return logarithms


def _divergence(reference: "NDArray[np.float16]", log_q: "NDArray[np.float32]") -> "np.float64":
    """Return a row's divergence; what rounding has added to the reference's probabilities is taken out again."""
    import numpy as np

    width = min(len(reference), len(log_q))
    log_p, log_q = reference[:width].astype(np.float32), log_q[:width]
    weights = np.exp(log_p)
    total = weights.sum(dtype=np.float64)
    divergence: np.float64 = (weights * (log_p - log_q)).sum(dtype=np.float64) / total - np.log(total)
    return divergence
