"""What a run has done to the stack so far, by kind, and what people complain of."""

from collections import Counter
from collections.abc import Callable

from tests.chaos.stack import Stack


class Tally:
    """Counts each fault once it has taken effect.

    Args:
        stack: says whether a child runs.
        say: tells a person what is hit.
    """

    def __init__(self, stack: Stack, say: Callable[[str], None]) -> None:
        self.struck: Counter[str] = Counter()
        self.hit_a_child: Counter[str] = Counter()  # whose target was a running child, or had one
        self.while_one_ran: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._stack = stack
        self._say = say

    def note(self, kind: str, what: str, *, hit_a_child: bool = False) -> None:
        """Count a fault that has struck."""
        self.struck[kind] += 1
        self.hit_a_child[kind] += hit_a_child
        self.while_one_ran[kind] += hit_a_child or bool(self._stack.children())
        self._say(f"{kind}: {what}")
