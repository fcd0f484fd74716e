"""What a model's logits say of the tokens of an item, alone and beside those of full precision.

Probabilities are of a float32 softmax; logarithms are natural, so that what is summed is in nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import ModelUnsupported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

CHUNK_ROWS = 16  # of the logits at a time: of a large vocabulary these still lie in a processor's cache
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
    logits: "NDArray[np.float32]", targets: Sequence[int], reference: "NDArray[np.float16] | None" = None
) -> ItemScore:
    """Return what a model's logits say.

    Args:
        logits: of shape ``[len(targets), vocabulary]``; each row predicts one target.
        targets: the tokens that are there.
        reference: full precision's log-probabilities, as ``log_probabilities`` gives them. Where the two vocabularies
            differ in padding, what both have is compared.

    Raises:
        ModelUnsupported: a token has no logit, or what comes of one is not finite.
    """
    import numpy as np
    import torch

    if max(targets) >= logits.shape[1]:
        raise ModelUnsupported(f"The tokenizer gives id {max(targets)}, and the model knows {logits.shape[1]} tokens.")
    nll, kl = [], []
    wanted = torch.tensor(list(targets)).unsqueeze(1)
    for begin in range(0, len(targets), CHUNK_ROWS):
        chunk = slice(begin, begin + CHUNK_ROWS)
        shifted, normalizer = _normalize(logits[chunk])
        nll.append(normalizer - shifted.gather(1, wanted[chunk]))
        if reference is not None:
            kl.append(_divergence(reference[chunk], _floored(shifted, normalizer)))
    scored: NDArray[np.float64] = torch.cat(nll).squeeze(1).numpy()
    if not np.isfinite(scored).all():
        raise ModelUnsupported("The model's logits are not finite: its weights hold NaN, or overflow in this format.")
    likeliest = logits.argmax(axis=1).astype(np.int32)
    return ItemScore(scored, likeliest, torch.cat(kl).numpy() if kl else None)


def log_probabilities(logits: "NDArray[np.float32]") -> "NDArray[np.float16]":
    """Return the logarithms of all probabilities, as they are kept to be compared with: 11 bits of each count."""
    import numpy as np

    kept = np.empty(logits.shape, dtype=np.float16)
    for begin in range(0, len(logits), CHUNK_ROWS):
        chunk = slice(begin, begin + CHUNK_ROWS)
        kept[chunk] = _floored(*_normalize(logits[chunk])).half().numpy()
    return kept


def _normalize(logits: "NDArray[np.float32]") -> "tuple[Tensor, Tensor]":
    """Return logits moved so that each row's largest is 0, and the logarithm of the sum of their exponentials."""
    import torch

    rows = torch.from_numpy(logits)
    shifted = rows - rows.amax(dim=1, keepdim=True)
    # The sum over a large vocabulary loses digits in float32, so it alone is made in float64.
    return shifted, shifted.exp().sum(dim=1, keepdim=True, dtype=torch.float64).log()


def _floored(shifted: "Tensor", normalizer: "Tensor") -> "Tensor":
    return (shifted - normalizer.float()).clamp_(min=LOG_FLOOR)


def _divergence(reference: "NDArray[np.float16]", log_q: "Tensor") -> "Tensor":
    """Return each row's divergence; what rounding has added to the reference's probabilities is taken out again."""
    import torch

    width = min(reference.shape[1], log_q.shape[1])
    log_p, log_q = torch.from_numpy(reference)[:, :width].float(), log_q[:, :width]
    weights = log_p.exp()
    total = weights.sum(dim=1, dtype=torch.float64)
    return (weights * (log_p - log_q)).sum(dim=1, dtype=torch.float64) / total - total.log()
