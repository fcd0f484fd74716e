"""Copies what a child prints into Postgres, in chunks, while it runs."""

import codecs
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from core.logging import log
from db import logs
from db.session import Database
from db.tokens import Lease

PIECE_BYTES = 65536 // 3  # a byte that is no UTF-8 becomes three when it is replaced
ATTEMPT_BYTES_MAX = 16 << 20
CUT_OFF = "\n[the log is longer than 16 MiB; the rest is left out]\n"


class LogWriter:
    """Follows the log file of one attempt.

    Args:
        database: where the chunks go.
        path: the file that the child prints into.
        lease: of the execution whose log it is.
        attempt: which attempt's.
    """

    def __init__(self, database: Database, path: Path, lease: Lease, attempt: int) -> None:
        self._database = database
        self._path = path
        self._lease = lease
        self._attempt = attempt
        self._copied_bytes = 0

    def copy(self, *, final: bool = False) -> None:
        """Write the lines that are new, and at the end what follows the last of them.

        What cannot be written now is written the next time.
        """
        while self._copied_bytes < ATTEMPT_BYTES_MAX and (piece := self._read(final=final)):
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            text = decoder.decode(piece, final and len(piece) < PIECE_BYTES)
            taken_bytes = len(piece) - len(decoder.getstate()[0])  # a character may be cut off at the end
            whole = self._copied_bytes + taken_bytes < ATTEMPT_BYTES_MAX
            try:
                self._append(text.replace("\0", "\ufffd") if whole else CUT_OFF)
            except SQLAlchemyError as error:
                log.warning("a piece of log could not be written yet", error=str(error))
                return
            self._copied_bytes += taken_bytes

    def _append(self, text: str) -> None:
        self._database.run(lambda session: logs.append(session, self._lease, self._attempt, text))

    def _read(self, *, final: bool) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._copied_bytes)
            piece = file.read(PIECE_BYTES)
        if final or len(piece) == PIECE_BYTES:
            return piece
        return piece[: piece.rfind(b"\n") + 1]
