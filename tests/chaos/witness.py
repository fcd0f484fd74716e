"""An eye in the database that the service knows nothing of: triggers note what happens, and the harness reads it.

Postgres may be away at any moment: then there is no answer, and whoever asked asks again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

SQL = Path(__file__).parent / "witness.sql"
CONNECT_SECONDS = 2
STATEMENT_MILLISECONDS = 10_000

Row = tuple[Any, ...]


class Witness:
    """Reads what the triggers noted, and the tables themselves.

    Args:
        database_url: the service's database; the tables are there.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: psycopg.Connection[Row] | None = None

    def install(self) -> None:
        """Put the triggers in place."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(SQL.read_text())

    def ask(self, query: str, *values: Any) -> Sequence[Row] | None:
        """Return the rows of a query; None while Postgres cannot answer."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=CONNECT_SECONDS,
                    options=f"-c statement_timeout={STATEMENT_MILLISECONDS}",
                )
            return self._connection.execute(query, values or None).fetchall()
        except psycopg.OperationalError:
            self.close()
            return None

    def over(self) -> set[str] | None:
        """Return the jobs that are in a final status, or None."""
        rows = self.ask("SELECT id FROM jobs WHERE status IN ('succeeded', 'failed', 'cancelled')")
        return None if rows is None else {row[0] for row in rows}

    def lease(self, execution_id: str) -> tuple[str, int] | None:
        """Return the status and the token of an execution, or None."""
        rows = self.ask("SELECT status, token FROM executions WHERE id = %s", execution_id)
        return (rows[0][0], rows[0][1]) if rows else None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
