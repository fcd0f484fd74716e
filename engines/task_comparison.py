"""What a result has lost in tasks against full precision, on the same items.

Items have nothing to do with each other, so each is drawn singly; both models are drawn together. Few items, or items
on which the two never differ, tell the bootstrap too little: an interval is no shorter than where each loss and each
gain were a whole one, and were counted (Clopper and Pearson 1934).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engines.intervals import CONFIDENCE, Estimate, binomial, draws, estimate
from engines.tasks import ACCURACY, ROUGE_L, TaskScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DROP = "_drop"  # full precision's figure less the result's
ACCURACY_DROP, ROUGE_L_DROP = ACCURACY + DROP, ROUGE_L + DROP
TASK_METRICS = (ACCURACY, ACCURACY_DROP, ROUGE_L, ROUGE_L_DROP)


def compare_tasks(reference: TaskScores, result: TaskScores, confidence: float = CONFIDENCE) -> Mapping[str, Estimate]:
    """Return each metric of one task with its interval.

    Args:
        reference: full precision's scores, of at least as many items.
        result: the result's.
        confidence: of the intervals.
    """
    import numpy as np

    found = {}
    for metric, scored in result.items():
        ours = np.array(scored, dtype=np.float64)
        theirs = np.array(reference[metric][: len(ours)], dtype=np.float64)
        found[metric] = _mean(ours, ours > 0, ours < 1, confidence)
        found[metric + DROP] = _mean(theirs - ours, theirs > ours, theirs < ours, confidence)
    return {metric: found[metric] for metric in TASK_METRICS if metric in found}


def _mean(
    values: "NDArray[np.float64]", adds: "NDArray[np.bool_]", takes: "NDArray[np.bool_]", confidence: float
) -> Estimate:
    """Return a mean with its interval.

    Args:
        values: of each item.
        adds: which of them make it larger.
        takes: which of them make it smaller, or less large than it might be.
        confidence: of the interval.
    """
    import numpy as np

    count, value = len(values), float(values.mean())
    drawn = np.concatenate([drawn @ values / count for drawn in draws(count, 1)])
    found = estimate(value, drawn, count, confidence)
    if found.low is None or found.high is None:
        return found
    more, less = (binomial(int(which.sum()), count, confidence)[1] - which.mean() for which in (adds, takes))
    return Estimate(value, min(found.low, value - float(less)), max(found.high, value + float(more)))
