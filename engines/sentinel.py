"""Stops quantizing once a module's numbers say that the result is of no use: what is too much, and what to try.

Engines tell it of each module as they hear of it. Refuses to know engines, and how errors are measured
(``engines/output_error.py``); why these bounds, see ``docs/decisions/0023-sentinel.md``.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from core.errors import Diverged

# All inputs of a module are one vector, but for rounding: no real text comes near it.
SPREAD_MIN = 1e-5
# In a layer, and no other there: one module alone may be ruled by the few huge inputs that some models have.
ALIKE_MODULES = 3

BOUND = "max_output_error"
OUTPUT_ERROR, WEIGHT_ERROR = "output_error", "weight_error"  # measurements
_MEANT = {
    OUTPUT_ERROR: "loses {:.3g} of its outputs' squares on the calibration text",
    WEIGHT_ERROR: "loses {:.3g} of its weights' squares",
}
_DAMPING = ("damp_percent", "dampening_frac")
BITS_MOST, GROUP_LEAST = 8, 32
DAMP_USUAL = 0.1


class Place(NamedTuple):
    """Where a module is.

    Attributes:
        layer: number of the decoder layer, from 0; -1 for what is in none.
        module: name within the layer.
    """

    layer: int
    module: str

    def __str__(self) -> str:
        """Return it for people."""
        return f"Layer {self.layer}, {self.module}" if self.layer >= 0 else self.module


def not_finite(place: Place, what: str) -> Diverged:
    """Return the error of numbers that are not finite.

    Args:
        place: where they are.
        what: is so, with its value, if that is known.
    """
    return Diverged(
        f"{place}: {what}. The model gives such numbers itself, or its weights are damaged: look at the source, and at "
        "the precision that it is stored in.",
        param="recipe",
    )


class Sentinel:
    """Watches one run.

    Attributes:
        found: what was measured of each module, by the measurement's name.

    Args:
        parameters: the recipe's, as plain data, by which it knows the bound and what to advise.
        of_experts: what else to try where an expert sees no text: a recipe whose experts all see all of it.
    """

    def __init__(self, parameters: Mapping[str, Any], of_experts: str = "") -> None:
        self.found: dict[Place, dict[str, float]] = {}
        self._parameters = parameters
        self._of_experts = of_experts
        self._alike = Counter[int]()
        self._told_apart = set[int]()

    def finite(self, place: Place, what: str, value: float) -> None:
        """Hear a number that must be finite.

        Raises:
            Diverged: it is not.
        """
        if not math.isfinite(value):
            raise not_finite(place, f"{what} is {value}")

    def inputs(self, place: Place, spread: float) -> None:
        """Hear which part of a module's inputs is not one direction alone.

        Raises:
            Diverged: it is not finite, or all modules of a layer see one vector only.
        """
        self.finite(place, "what its inputs come to", spread)
        if spread > SPREAD_MIN:
            self._told_apart.add(place.layer)
        elif place.layer not in self._told_apart:
            self._alike[place.layer] += 1
            if self._alike[place.layer] >= ALIKE_MODULES:
                self._stop(
                    f"{place}: all inputs that the calibration text gives it are alike, as are those of the modules "
                    f"before it: {max(spread, 0.0):.1g} of them is not one direction, and {SPREAD_MIN:g} is the least",
                    "The text says one thing over and over. Choose another calibration_text",
                )

    def unseen(self, place: Place) -> NoReturn:
        """Hear that no token of the calibration text reached a module.

        Raises:
            Diverged: always.
        """
        other_text = "a calibration_text that is more like what the model is for"
        self._stop(
            f"{place}: 0 tokens of the calibration text reached it, and 1 is the least, so it would be rounded blindly",
            self._choices("more calibration_samples", other_text, self._of_experts or None),
        )

    def indefinite(self, place: Place, damp: float) -> NoReturn:
        """Hear that a Hessian is not positive definite, although its diagonal was raised by a part of its mean.

        Raises:
            Diverged: always.
        """
        self._stop(
            f"{place}: the Hessian of its inputs is not positive definite, with {damp:g} of its mean added to its "
            "diagonal",
            self._choices(self._text(), self._damping(), self._rule(place)),
        )

    def rounded(self, place: Place, name: str, error: float) -> None:
        """Hear how far a module is from what it was, as ``OUTPUT_ERROR`` or as ``WEIGHT_ERROR``.

        Raises:
            Diverged: it is not finite, or above the recipe's bound.
        """
        self.finite(place, f"its {name}", error)
        self.found.setdefault(place, {})[name] = error
        bound = self._parameters[BOUND]
        if error > bound:
            text = self._text() if name == OUTPUT_ERROR else None
            damping = self._damping() if name == OUTPUT_ERROR else None
            taken = f"{BOUND} above {error:.3g} to take it as it is"
            self._stop(
                f"{place}: rounded, it {_MEANT[name].format(error)}, and {BOUND} is {bound:g}",
                self._choices(text, damping, self._groups(), self._bits(), self._rule(place), taken),
            )

    def _text(self) -> str:
        return "more calibration_samples or another calibration_text"

    def _damping(self) -> str | None:
        for name in _DAMPING:
            if name in self._parameters and self._parameters[name] < DAMP_USUAL:
                return f"a higher {name} (it is {self._parameters[name]:g}), such as {DAMP_USUAL:g}"
        return None

    def _groups(self) -> str | None:
        size = self._parameters.get("group_size")
        return None if size is None or 0 < size <= GROUP_LEAST else f"a smaller group_size (it is {size})"

    def _bits(self) -> str | None:
        bits = self._parameters.get("bits")
        return None if bits is None or bits >= BITS_MOST else f"more bits (it has {bits})"

    def _rule(self, place: Place) -> str:
        if place.layer < 0:
            return "lm_head false"
        return "a rule in modules that leaves it as it is"

    def _choices(self, *choices: str | None) -> str:
        """Return what there is to try, as a sentence."""
        *first, last = (choice for choice in choices if choice is not None)
        return f"Try {', '.join(first)}, or {last}"

    def _stop(self, what: str, what_to_try: str) -> NoReturn:
        raise Diverged(f"{what}. {what_to_try}.", param="recipe")
