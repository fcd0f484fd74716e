"""Whether a result answers as its source does; the same for every format."""

from collections.abc import Sequence

from engines.probe import Answers
from engines.verification.subject import Fault

DIVERGENCE_MIN, DIVERGENCE_MAX = 0.25, 4.0  # nats; a model that knows nothing is about 8 away
REPETITION_MORE_MAX = 0.35
NGRAM = 3


def divergence_bound(bits: float) -> float:
    """Return the mean KL divergence, in nats, that a sound result of so many bits a weight stays below.

    It falls with the square of the rounding error. Sound results of tiny-llama-6m lie at most at 4 % of it; those of
    SmolLM2-135M, which small errors harm more, at 2 to 34 %. What is not sound lies far beyond.
    """
    return float(min(DIVERGENCE_MAX, max(DIVERGENCE_MIN, 2 * 4 ** (4.5 - bits))))


def check_divergence(given: Answers, full_precision: Answers, bits: float) -> str:
    """Compare the probabilities of every token.

    Raises:
        Fault: they are too far from full precision's.
    """
    import numpy as np

    expected = full_precision.log_probabilities
    if given.log_probabilities.shape != expected.shape:
        raise Fault(f"It knows {given.log_probabilities.shape[1]} tokens, and the source {expected.shape[1]}.")
    divergences = (np.exp(expected) * (expected - given.log_probabilities)).sum(axis=1, dtype=np.float64)
    mean, bound = float(divergences.mean()), divergence_bound(bits)
    found = f"KL divergence to full precision is {mean:.4f} nats on average over {len(divergences)} places"
    if not mean <= bound:
        raise Fault(f"{found}, more than the {bound:.2f} of a sound result of {bits:.1f} bits.")
    return f"{found}; the bound is {bound:.2f}."


def check_generation(given: Answers, full_precision: Answers) -> str:
    """Compare how much each repeats itself.

    Raises:
        Fault: the result does a good deal more than its source.
    """
    ours, theirs = (_repetition(answers.continuations.tolist()) for answers in (given, full_precision))
    found = f"{ours:.0%} of the generated text repeats itself, {theirs:.0%} at full precision"
    if ours > theirs + REPETITION_MORE_MAX:
        raise Fault(f"{found}: it falls into repetition.")
    return f"{found}."


def _repetition(continuations: Sequence[Sequence[int]]) -> float:
    """Return which part of all runs of ``NGRAM`` tokens has been there before in the same text."""
    repeated = total = 0
    for ids in continuations:
        runs = [tuple(ids[begin : begin + NGRAM]) for begin in range(len(ids) - NGRAM + 1)]
        total += len(runs)
        repeated += len(runs) - len(set(runs))
    return repeated / total
