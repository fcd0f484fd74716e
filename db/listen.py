"""Hear Postgres's notifications on one connection, which is opened again when it breaks."""

import contextlib
import time
from collections.abc import Callable

import psycopg
from psycopg import sql

RECONNECT_SECONDS = 1.0


class Listener:
    """A connection that listens on one channel. Not for two threads at once.

    Args:
        url: ``postgresql://…``.
        channel: one of ``db.notify``.
        on_connect: called each time that listening begins; what was sent before was not heard.
    """

    def __init__(self, url: str, channel: str, on_connect: Callable[[], None] = lambda: None) -> None:
        self._url = url
        self._channel = channel
        self._on_connect = on_connect
        self._connection: psycopg.Connection | None = None

    def wait(self, timeout_seconds: float) -> list[str]:
        """Return the payloads heard, as soon as there is one; none after the timeout or while Postgres is away."""
        try:
            connection = self._connection or self._connect()
            return [notice.payload for notice in connection.notifies(timeout=timeout_seconds, stop_after=1)]
        except psycopg.OperationalError:
            self.close()
            time.sleep(min(RECONNECT_SECONDS, timeout_seconds))
            return []

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    def _connect(self) -> psycopg.Connection:
        connection = self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        self._on_connect()
        return connection
