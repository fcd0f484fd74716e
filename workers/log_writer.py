"""Copies what a child prints into Postgres, in chunks, while it runs."""

import codecs
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Chunk:
    offset_bytes: int
    end_bytes: int
    text: str


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
        self._append = partial(logs.append, lease=claimed.lease, attempt=claimed.attempt)
        self._copied_bytes = 0
        # Sent again as it was, though more may follow by then: Postgres may have it, and only its answer was lost.
        self._unanswered: _Chunk | None = None

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
        while (chunk := self._unanswered or self._next(final=final)) is not None:
            self._unanswered = chunk
            run(partial(self._append, text=chunk.text, offset_bytes=chunk.offset_bytes))
            self._unanswered = None
            self._copied_bytes = chunk.end_bytes

    def _next(self, *, final: bool) -> _Chunk | None:
        offset_bytes = self._copied_bytes
        if offset_bytes >= ATTEMPT_BYTES_MAX or not (piece := self._read(final=final)):
            return None
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(piece, final and len(piece) < PIECE_BYTES)
        end_bytes = offset_bytes + len(piece) - len(decoder.getstate()[0])  # a character may be cut off at the end
        chunk = text.replace("\0", "\ufffd") if end_bytes < ATTEMPT_BYTES_MAX else CUT_OFF
        return _Chunk(offset_bytes, end_bytes, chunk)

    def _read(self, *, final: bool) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._copied_bytes)
            piece = file.read(PIECE_BYTES)
        if final or len(piece) == PIECE_BYTES:
            return piece
        return piece[: piece.rfind(b"\n") + 1]
