"""How what was measured, and what it is held to, is said in a sentence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["change", "share", "number"]
DIGITS_MAX = 4


@dataclass(frozen=True)
class Metric:
    """How one metric is spoken of.

    Attributes:
        name: as a person would call it.
        kind: a ``change`` is a ratio that is told as what it adds to 1, a ``share`` is told in percent.
        perfect: its value where nothing is lost: how far a bound lies from it is what the bound allows.
    """

    name: str
    kind: Kind = "number"
    perfect: float = 0.0

    def amount(self, value: float, *, beside: float | None = None) -> str:
        """Return a value, with as many digits as tell it from another that is named beside it."""
        if self.kind == "number":
            return f"{value:.3g}"
        shown, other = self._percent(value), None if beside is None else self._percent(beside)
        digits = 0 if other is None and math.isclose(shown, round(shown), abs_tol=1e-9) else 1
        while (
            other is not None
            and shown != other
            and digits < DIGITS_MAX
            and round(shown, digits) == round(other, digits)
        ):
            digits += 1
        return f"{shown:{'+' if self.kind == 'change' else ''}.{digits}f} %"

    def difference(self, value: float) -> str:
        """Return how far two values lie apart."""
        return f"{value:.2g}" if self.kind == "number" else f"{100 * value:.2g} points"

    def limit(self, bound: float, *, is_most: bool) -> str:
        """Return a bound, as it follows the metric's name."""
        if self.kind == "change" and is_most:
            return f"within {self.amount(bound).lstrip('+')}"
        return f"{'below' if is_most else 'above'} {self.amount(bound)}"

    def _percent(self, value: float) -> float:
        return 100 * (value - 1) if self.kind == "change" else 100 * value


METRICS: Mapping[str, Metric] = {
    "perplexity_ratio": Metric("perplexity", "change", perfect=1.0),
    "agreement": Metric("agreement", "share", perfect=1.0),
    "kl_divergence": Metric("KL divergence"),
    "kl_divergence_p99": Metric("99th-percentile KL divergence"),
    "accuracy": Metric("accuracy", "share", perfect=1.0),
    "accuracy_drop": Metric("loss of accuracy", "share"),
    "rouge_l": Metric("ROUGE-L", "share", perfect=1.0),
    "rouge_l_drop": Metric("loss of ROUGE-L", "share"),
}


def listed(parts: Sequence[str]) -> str:
    """Return several things as a sentence names them."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def bytes_in_words(size_bytes: int) -> str:
    """Return a size in decimal units, as disks and hubs count."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 10**9 else f"{size_bytes / 1e6:.1f} MB"
