"""Writes what a child measures into Postgres, in batches, while it runs."""

from collections.abc import Callable
from functools import partial

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.logging import log
from db import metrics
from db.claim import Claim
from db.metrics import NewMetric
from db.session import Database
from engines.context import Measurement
from workers.leases import HeldLease

WAITING_MAX = 100_000  # measurements that an outage of Postgres may pile up; what comes then is dropped


class MetricWriter:
    """Takes the measurements of one attempt.

    Args:
        database: where they go.
        held: of the attempt's lease.
        claimed: the attempt.
    """

    def __init__(self, database: Database, held: HeldLease, claimed: Claim) -> None:
        self._database = database
        self._held = held
        self._append = partial(metrics.append, lease=claimed.lease, attempt=claimed.attempt)
        self._waiting: list[NewMetric] = []
        self._written_count = 0

    def add(self, measured: Measurement) -> None:
        """Have a measurement written with the next batch."""
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append(NewMetric(measured.layer, measured.module, measured.values))

    def write(self) -> None:
        """Write what is new. What cannot be written now is written the next time."""
        try:
            self._write(self._database.run)
        except SQLAlchemyError as error:
            log.warning("metrics could not be written yet", error=str(error))

    def finish(self) -> None:
        """Write all that is left, as soon as Postgres can be reached.

        Raises:
            LeaseLost: the lease is lost.
        """
        self._write(self._held.persist)

    def _write(self, run: Callable[[Callable[[Session], None]], None]) -> None:
        batch = list(self._waiting)
        if batch:
            run(partial(self._append, measured=batch, first_number=self._written_count))
            self._written_count += len(batch)
            del self._waiting[: len(batch)]
