"""What a result has lost in tasks against full precision, on the same items.

Items have nothing to do with each other, so each is drawn singly; both models are drawn together. Few items, or items
on which the two never differ, tell the bootstrap too little: an interval is no shorter than where each loss and each
gain were a whole one, and were counted (Clopper and Pearson 1934).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engines.intervals import CONFIDENCE, Bootstrap, Estimate, binomial, draws
from engines.tasks import ACCURACY, ROUGE_L, TaskScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DROP = "_drop"  # full precision's figure less the result's
ACCURACY_DROP, ROUGE_L_DROP = ACCURACY + DROP, ROUGE_L + DROP
TASK_METRICS = (ACCURACY, ACCURACY_DROP, ROUGE_L, ROUGE_L_DROP)


@dataclass(frozen=True)
class DrawnTask:
    """A mean over the items of a task, as it was measured and on each draw of the bootstrap.

    Attributes:
        bootstrap: of the mean.
        items: how many there were.
        adding: how many of them make it larger.
        taking: how many make it smaller, or less large than it might be.
    """

    bootstrap: Bootstrap
    items: int
    adding: int
    taking: int

    def at(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the mean with its interval.

        Args:
            confidence: in which part of all measurements the interval shall hold the true value.
        """
        found = self.bootstrap.at(confidence)
        if found.low is None or found.high is None:
            return found
        more, less = (
            binomial(count, self.items, confidence)[1] - count / self.items for count in (self.adding, self.taking)
        )
        return Estimate(found.value, min(found.low, found.value - less), max(found.high, found.value + more))


def draw_task(reference: TaskScores, result: TaskScores) -> Mapping[str, DrawnTask]:
    """Return each metric of one task, drawn once for intervals at several confidences.

    Args:
        reference: full precision's scores, of at least as many items.
        result: the result's.
    """
    import numpy as np

    found = {}
    for metric, scored in result.items():
        ours = np.array(scored, dtype=np.float64)
        theirs = np.array(reference[metric][: len(ours)], dtype=np.float64)
        found[metric] = _mean(ours, ours > 0, ours < 1)
        drop = _mean(theirs - ours, theirs > ours, theirs < ours)
        # Where full precision scores nothing there is nothing to lose, whatever has become of the model.
        found[metric + DROP] = (
            drop if theirs.any() else replace(drop, bootstrap=Bootstrap(drop.bootstrap.value, None, 0))
        )
    return {metric: found[metric] for metric in TASK_METRICS if metric in found}


def _mean(values: "NDArray[np.float64]", adding: "NDArray[np.bool_]", taking: "NDArray[np.bool_]") -> DrawnTask:
    import numpy as np

    count = len(values)
    drawn = np.concatenate([drawn @ values / count for drawn in draws(count, 1)])
    return DrawnTask(Bootstrap(float(values.mean()), drawn, count), count, int(adding.sum()), int(taking.sum()))
