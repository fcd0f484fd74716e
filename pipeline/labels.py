"""Labels beside the points of a picture, where they cover as little as possible.

Refuses to know: what the points are of.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_FAR = 1e4  # beyond every edge of a picture


def write_beside(axes: "Axes", words: Sequence[tuple[float, float, str]]) -> None:
    """Write a label beside each point, at the first of some places where it covers nothing."""
    import numpy as np

    _lay_out(axes)  # the labels take no part in it: places are known from here on
    places = axes.transData.transform([(x, y) for x, y, _ in words])
    taken = np.concatenate([places - 5, places + 5], axis=1)
    beyond = [[axes.bbox.x1 - 8, -_FAR, _FAR, _FAR], [-_FAR, -_FAR, axes.bbox.x0, _FAR]]
    taken = np.concatenate([taken, beyond])
    for at, (x, y, label) in zip(places, words, strict=True):
        size = np.array([5.6 * len(label), 11.0])
        left = -7 - size[0]
        offsets = np.array([(7, 4), (7, -13), (left, 4), (left, -13), (7, 16), (7, -25), (left, 16)])
        boxes = np.concatenate([at + offsets, at + offsets + size], axis=1)
        best = int(_overlaps(boxes, taken).argmin())
        taken = np.concatenate([taken, boxes[best : best + 1]])
        axes.annotate(
            label, (x, y), offsets[best], textcoords="offset points", fontsize=8, color="#111827", in_layout=False
        )


def _lay_out(axes: "Axes") -> None:
    """Give a picture's axes their final place, which drawing then does not look for again."""
    figure = axes.get_figure(root=True)
    if figure is not None and (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def _overlaps(boxes: "NDArray[np.float64]", taken: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return how much of each box, as left, bottom, right and top, others cover that are taken."""
    import numpy as np

    least = np.maximum(boxes[:, None, :2], taken[None, :, :2])
    most = np.minimum(boxes[:, None, 2:], taken[None, :, 2:])
    covered: NDArray[np.float64] = np.clip(most - least, 0, None).prod(axis=2).sum(axis=1)
    return covered
