"""What work, keeping and serving cost, by the operator's prices. Refuses to know: whose work it is."""

from collections.abc import Mapping
from dataclasses import dataclass

HOUR_SECONDS = 3600
GIB = 2**30
MILLION = 10**6


@dataclass(frozen=True)
class Prices:
    """What the operator has set, in one currency; None where nothing is set, and nothing is said of it."""

    currency: str
    cpu_hour: float | None = None
    gpu_hour: float | None = None
    gib_month: float | None = None

    @property
    def are_set(self) -> bool:
        """Whether anything can be said at all."""
        return any(price is not None for price in (self.cpu_hour, self.gpu_hour, self.gib_month))

    def of_work(self, seconds: Mapping[str, float]) -> float | None:
        """Return what work has cost, given by pool; None where the price of a pool that worked is not set."""
        hourly = {"cpu": self.cpu_hour, "gpu": self.gpu_hour}
        total = 0.0
        for pool, worked in seconds.items():
            price = hourly.get(pool)
            if price is None:
                return None
            total += worked / HOUR_SECONDS * price
        return total if self.are_set else None

    def of_keeping(self, size_bytes: int | None) -> float | None:
        """Return what it costs to keep so many bytes for a month."""
        return None if size_bytes is None or self.gib_month is None else size_bytes / GIB * self.gib_month

    def of_a_million_tokens(self, tokens_per_second: float | None, pool: str) -> float | None:
        """Return what it costs to generate a million tokens one after the other on a machine of a pool."""
        hourly = {"cpu": self.cpu_hour, "gpu": self.gpu_hour}.get(pool)
        if tokens_per_second is None or tokens_per_second <= 0 or hourly is None:
            return None
        return MILLION / tokens_per_second / HOUR_SECONDS * hourly
