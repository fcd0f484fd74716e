"""Collect what nothing uses and nobody asks for any more: blobs, announcements of uploads, keys, events, logs."""

import dataclasses
from dataclasses import dataclass
from functools import partial

from core.errors import FewbitsError
from core.logging import log
from db import artifacts, datasets, history, idempotency
from db.session import Database
from store.port import BlobStore

COLLECTED_AT_ONCE = 100


@dataclass(frozen=True)
class Collected:
    """What one round deleted."""

    blobs: int
    intents: int
    keys: int
    datasets: int
    history: int


NOTHING = Collected(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Keeping:
    """How long what may be deleted is kept."""

    garbage_grace_seconds: float
    idempotency_seconds: float
    history_seconds: float


class Collector:
    """Deletes what may be deleted, a piece at a time.

    Args:
        database: where the rows are.
        store: where blobs are.
        keeping: how long it waits.
    """

    def __init__(self, database: Database, store: BlobStore, keeping: Keeping) -> None:
        self._database = database
        self._store = store
        self._keeping = keeping

    def run_once(self) -> Collected:
        """Delete some of what is due and return how much it was."""
        done = Collected(
            keys=self._database.run(partial(idempotency.forget, older_than_seconds=self._keeping.idempotency_seconds)),
            history=sum(self._forget(table) for table in history.TABLES),
            datasets=self._database.run(
                partial(datasets.forget_unfinished, older_than_seconds=self._keeping.garbage_grace_seconds)
            ),
            intents=self._database.run(history.forget_intents),
            blobs=self._collect(),
        )
        if done != NOTHING:
            log.info("collected", **dataclasses.asdict(done))
        return done

    def _forget(self, table: str) -> int:
        forget = partial(history.forget, table=table, older_than_seconds=self._keeping.history_seconds)
        return self._database.run(forget)

    def _collect(self) -> int:
        count = 0
        try:
            while count < COLLECTED_AT_ONCE and self._collect_one():
                count += 1
        except (OSError, FewbitsError) as error:
            log.warning("the store lets nothing be deleted", error=str(error))
        return count

    def _collect_one(self) -> bool:
        # The row stays locked until its bytes are gone, so that nobody can count on them meanwhile.
        with self._database.transaction() as session:
            sha256 = artifacts.lock_garbage(session, self._keeping.garbage_grace_seconds)
            if sha256 is None:
                return False
            self._store.delete(sha256)
            artifacts.forget(session, sha256)
            return True
