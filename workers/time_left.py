"""How long a piece of work still takes, by the pace at which it went lately."""

import dataclasses
import time
from collections import deque
from dataclasses import dataclass

from engines.context import Progress

GONE_ON_UNITS = 2  # at once, in the first report that tells of any: nobody is so fast


@dataclass(frozen=True)
class TimedProgress(Progress):
    """Progress, and how long the rest takes.

    Attributes:
        seconds_left: when it was reported; None where that cannot be said: before the first unit is done, and after
            the last, when the result is written.
    """

    seconds_left: float | None = None


class TimeLeft:
    """Hears of the progress of one piece of work, and says how long the rest takes.

    Counts whole units, since the parts of a layer differ much, and of those that are done the later half: with the
    first, libraries are loaded and kernels compiled.
    """

    def __init__(self) -> None:
        self._kind: tuple[str, float] | None = None
        self._reached: deque[tuple[float, float]] = deque()  # how much was done, and when

    def hear(self, progress: Progress, now: float | None = None) -> TimedProgress:
        """Return progress with what is left.

        Args:
            progress: how far the work is.
            now: seconds of a clock that only grows; the machine's by default.
        """
        now = time.monotonic() if now is None else now
        kind = (progress.unit, progress.total)
        if kind != self._kind or progress.done < self._reached[-1][0] or self._goes_on(progress):
            self._kind = kind
            self._reached = deque([(progress.done, now)])
        if int(progress.done) > int(self._reached[-1][0]):
            self._reached.append((progress.done, now))
            self._forget_first_half()
        left = self._left(progress, now)
        return TimedProgress(**dataclasses.asdict(progress), seconds_left=None if left is None else round(left, 1))

    def _goes_on(self, progress: Progress) -> bool:
        """Return whether units that an earlier attempt has done come at once, before any of this one."""
        return len(self._reached) == 1 and progress.done - self._reached[0][0] >= GONE_ON_UNITS

    def _forget_first_half(self) -> None:
        """Keep of what lies before the later half only the last."""
        half = self._reached[-1][0] / 2
        while len(self._reached) > 2 and int(self._reached[1][0]) <= half:  # noqa: PLR2004 - two points make a pace
            self._reached.popleft()

    def _left(self, progress: Progress, now: float) -> float | None:
        (first, began), (last, reached) = self._reached[0], self._reached[-1]
        if last == first or progress.done >= progress.total:
            return None
        pace = (reached - began) / (last - first)
        # A unit that takes longer than those before is taken to end any moment.
        unit_left = max(pace - (now - reached), 0.0)
        return unit_left + pace * max(progress.total - int(last) - 1, 0)
