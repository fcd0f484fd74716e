"""Copies what a child prints into Postgres, in chunks, while it runs."""

import codecs
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.logging import log
from db import logs
from db.claim import Claim
from db.session import Database
from workers.leases import HeldLease

PIECE_BYTES = 65536 // 3  # a byte that is no UTF-8 becomes three when it is replaced
ATTEMPT_BYTES_MAX = 16 << 20
CUT_OFF = "\n[the log is longer than 16 MiB; the rest is left out]\n"


class LogWriter:
    """Follows the log file of one attempt.

    Args:
        database: where the chunks go.
        held: of the attempt's lease.
        path: the file that the child prints into.
        claimed: the attempt.
    """

    def __init__(self, database: Database, held: HeldLease, path: Path, claimed: Claim) -> None:
        self._database = database
        self._held = held
        self._path = path
        self._claimed = claimed
        self._copied_bytes = 0

    def copy(self) -> None:
        """Write the lines that are new. What cannot be written now is written the next time."""
        try:
            self._copy(self._database.run, final=False)
        except SQLAlchemyError as error:
            log.warning("a piece of log could not be written yet", error=str(error))

    def finish(self) -> None:
        """Write all that is left, as soon as Postgres can be reached.

        Raises:
            LeaseLost: the lease is lost.
        """
        self._copy(self._held.persist, final=True)

    def _copy(self, run: Callable[[Callable[[Session], None]], None], *, final: bool) -> None:
        while self._copied_bytes < ATTEMPT_BYTES_MAX and (piece := self._read(final=final)):
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            text = decoder.decode(piece, final and len(piece) < PIECE_BYTES)
            taken_bytes = len(piece) - len(decoder.getstate()[0])  # a character may be cut off at the end
            whole = self._copied_bytes + taken_bytes < ATTEMPT_BYTES_MAX
            chunk = text.replace("\0", "\ufffd") if whole else CUT_OFF
            run(partial(logs.append, lease=self._claimed.lease, attempt=self._claimed.attempt, text=chunk))
            self._copied_bytes += taken_bytes

    def _read(self, *, final: bool) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._copied_bytes)
            piece = file.read(PIECE_BYTES)
        if final or len(piece) == PIECE_BYTES:
            return piece
        return piece[: piece.rfind(b"\n") + 1]
