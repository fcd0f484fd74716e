"""Rows by the thousand, written by SQL: what years of use leave, and what waits. The one place that names columns.

Each row has a number, ``n``; ids and times follow from it, so that a greater number is a later row.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, literal_column, select, text

from db.tables import Base, Event, Execution, Job, Step

NOW = 100_000_000  # the number whose time is now; rows below it are as many times 10 s older
ROUND_ROBIN = "n % team.total"

# What all jobs of the seed ask for; an SQL expression for each column, over the number n and the row's team.
_JOB = {
    "id": "'job_' || lpad(n::text, 26, '0')",
    "team_id": "team.id",
    "source": "'file:///models/tiny'",
    "method": "'gguf'",
    "recipe": """'{"method": "gguf", "type": "Q4_K_M"}'::jsonb""",
    "evaluation": """'{"domains": ["prose", "code"], "windows": 40}'::jsonb""",
    "metadata": "'{}'::jsonb",
    "labels": "CASE WHEN n % 100 = 0 THEN ARRAY['release', 'nightly'] ELSE ARRAY['nightly'] END",
    "event_count": "1",
    "created_at": f"now() - make_interval(secs => 10.0 * ({NOW} - n))",
}
_STEP = {
    "id": "'step_' || lpad(n::text, 26, '0')",
    "job_id": _JOB["id"],
    "position": "0",
    "kind": "'fetch'",
    "pool": "'cpu'",
    "needs": "'{}'::text[]",
    "params": "'{}'::jsonb",
    "execution_id": "'exec_' || lpad(n::text, 26, '0')",
}
_EXECUTION = {
    "id": _STEP["execution_id"],
    "team_id": "team.id",
    "key": "encode(sha256(n::text::bytea), 'hex')",
    "kind": "'fetch'",
    "pool": "'cpu'",
    "params": """'{"source": "file:///models/tiny"}'::jsonb""",
    "inputs": "'{}'::jsonb",
    "priority": "0",
    "memory_bytes": "1",
    "scratch_bytes": "1",
    "ready_at": "now() - interval '1 s'",
    "created_at": _JOB["created_at"],
}
_EVENT = {
    "job_id": _JOB["id"],
    "number": "1",
    "level": "'info'",
    "type": "'state'",
    "message": "'The job is queued.'",
    "data": "'{}'::jsonb",
}
_OVER = {
    "started_at": f"{_JOB['created_at']} + interval '1 s'",
    "finished_at": f"{_JOB['created_at']} + interval '9 s'",
}
_RAN = {**_OVER, "attempt": "1", "token": "1", "facts": """'{"size_bytes": 1}'::jsonb"""}


def ready(connection: Connection, first: int, count: int) -> None:
    """Write jobs of one step each, bound and ready to be claimed, shared out to all teams in turn."""
    rows = (first, count, ROUND_ROBIN)
    _write(connection, Job, {**_JOB, "status": "'queued'"}, *rows)
    _write(connection, Execution, {**_EXECUTION, "status": "'ready'"}, *rows)
    _write(connection, Step, {**_STEP, "status": "'ready'"}, *rows)
    _write(connection, Event, _EVENT, *rows)


def finished(connection: Connection, first: int, count: int, team: str = ROUND_ROBIN) -> None:
    """Write jobs of one step each that have succeeded.

    Args:
        connection: in a transaction of the caller's.
        first: the number of the oldest.
        count: how many.
        team: the place, from 0, of the team that row ``n`` belongs to, as an SQL expression.
    """
    rows = (first, count, team)
    status = "'succeeded'"
    _write(connection, Job, {**_JOB, **_OVER, "status": status}, *rows)
    _write(connection, Execution, {**_EXECUTION, **_RAN, "status": status}, *rows)
    _write(connection, Step, {**_STEP, **_OVER, "status": status}, *rows)
    _write(connection, Event, _EVENT, *rows)


def _write(  # noqa: PLR0913, PLR0917 - a table and its rows
    connection: Connection, table: type[Base], columns: Mapping[str, str], first: int, count: int, team: str
) -> None:
    """Insert a row for each number from ``first`` on."""
    teams = text(
        f"generate_series({first}, {first + count - 1}) AS n JOIN (SELECT id, count(*) OVER () AS total, "  # noqa: S608
        f"row_number() OVER (ORDER BY name) - 1 AS place FROM teams) AS team ON team.place = {team}"
    )
    rows: Any = select(*(literal_column(expression) for expression in columns.values())).select_from(teams)
    connection.execute(insert(table).from_select(list(columns), rows))
