"""An eye in the database that the service knows nothing of: triggers note what happens, and the harness reads it.

Postgres may be away at any moment: then there is no answer, and whoever asked asks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.stack import DEATHS_MAX

SQL = Path(__file__).parent / "witness.sql"
CONNECT_SECONDS = 2
STATEMENT_MILLISECONDS = 10_000

MARKED = """
    SELECT DISTINCT workers.pid FROM executions JOIN workers ON workers.id = worker_id
    WHERE executions.status = 'running' AND lost_count >= %s
      AND executions.params #>> '{recipe,act}' IS DISTINCT FROM 'poison'
"""
QUANTIZING = """
    SELECT execution_id FROM steps JOIN jobs ON jobs.id = job_id
    WHERE steps.kind = 'quantize' AND execution_id IS NOT NULL AND metadata ->> 'request' = %s
"""
ORDERED = """
    INSERT INTO witness.orders (id, what, subject, pool, maximum) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING RETURNING id
"""
OVER = "UPDATE witness.orders SET until = clock_timestamp() WHERE id = %s AND until = 'infinity' RETURNING id"

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Order:
    """What an operator has ordered: a pool is ``paused``, a worker ``drained``, a team ``limited``.

    Attributes:
        id: its own.
        what: which of these.
        subject: the pool, the worker or the team.
        pool: where a team may run only so many executions; None where it may queue only so many jobs.
        maximum: how many.
    """

    id: str
    what: str
    subject: str
    pool: str | None = None
    maximum: int | None = None


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

    def marked(self) -> set[int] | None:
        """Return the workers, by pid, whose death would be the last that other work than poison may see; or None."""
        rows = self.ask(MARKED, DEATHS_MAX - 1)
        return None if rows is None else {row[0] for row in rows}

    def execution(self, request: str) -> str | None:
        """Return the execution that quantizes for a request, or None."""
        rows = self.ask(QUANTIZING, request)
        return rows[0][0] if rows else None

    def worker(self, pid: int) -> str | None:
        """Return the worker that a process is, or None."""
        rows = self.ask("SELECT id FROM workers WHERE pid = %s ORDER BY started_at DESC LIMIT 1", pid)
        return rows[0][0] if rows else None

    def ordered(self, order: Order) -> bool:
        """Note that an order holds from now on; return whether that is noted. Again changes nothing."""
        return self.ask(ORDERED, order.id, order.what, order.subject, order.pool, order.maximum) is not None

    def ends(self, order: Order) -> bool:
        """Note that an order may not hold any more; likewise."""
        return self.ask(OVER, order.id) is not None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
