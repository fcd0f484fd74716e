"""Rows by the thousand, written by SQL: what years of use leave, and what waits. The one place that names columns.

Each job has a number, ``n``; ids and times follow from it, so that a greater number is a later job.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, literal_column, select, text

from db.tables import Artifact, ArtifactFile, Attempt, Base, Blob, Evaluation, Event, Execution, Job, Step

NOW = 100_000_000  # the number whose time is now; each below it is a second older
ROUND_ROBIN = "n % team.total"
BLOB = "0" * 64

# The steps of a job, as rows of SQL: place, kind, pool, facts of its execution, role of its artifact, its files.
_STEPS = """(VALUES
    (0, 'fetch', 'cpu', '{"model": {"weight_bytes": 12000000}}'::jsonb, 'snapshot', 3),
    (1, 'convert', 'cpu', '{}', 'intermediate', 1),
    (2, 'quantize', 'cpu', '{"size_bytes": 4000000, "bits_per_weight": 5.04, "tensor_types": {"q4_K": 36, "q6_K": 7}}',
     'result', 1),
    (3, 'reference', 'gpu', '{}', NULL, 0),
    (4, 'verify', 'cpu', '{"checks": [{"name": "tensors", "passed": true, "detail": "43 of 56 tensors are quantized."},
     {"name": "loads", "passed": true, "detail": "It loads, and all its answers are finite."}]}', NULL, 0),
    (5, 'evaluate', 'cpu', '{}', NULL, 0)
) AS step(place, kind, pool, facts, role, files)"""


def job_id(number: int) -> str:
    """Return the id of a job of the seed."""
    return f"job_{number:026}"


# An SQL expression for each column, over the number n, the row's team, and where a row is of a step, that step.
_JOB_ID = "'job_' || lpad(n::text, 26, '0')"
_EXECUTION_ID = "'exec_' || step.place || lpad(n::text, 25, '0')"
_ARTIFACT_ID = "'art_' || step.place || lpad(n::text, 25, '0')"
_CREATED_AT = f"now() - make_interval(secs => {NOW} - n)"
_JOB = {
    "id": _JOB_ID,
    "team_id": "team.id",
    "source": "'file:///models/tiny'",
    "method": "'gguf'",
    "recipe": """'{"method": "gguf", "type": "Q4_K_M"}'::jsonb""",
    "evaluation": """'{"domains": ["prose", "code"], "windows": 40}'::jsonb""",
    "metadata": "'{}'::jsonb",
    "labels": """array_remove(ARRAY['nightly', CASE WHEN n % 100 = 0 THEN 'release' END,
                                    CASE WHEN n % 100000 = 0 THEN 'golden' END], NULL)""",
    "event_count": "1",
    "created_at": _CREATED_AT,
}
_STEP = {
    "id": "'step_' || step.place || lpad(n::text, 25, '0')",
    "job_id": _JOB_ID,
    "position": "step.place",
    "kind": "step.kind",
    "pool": "step.pool",
    "needs": "'{}'::text[]",
    "params": "'{}'::jsonb",
    "execution_id": _EXECUTION_ID,
}
_EXECUTION = {
    "id": _EXECUTION_ID,
    "team_id": "team.id",
    "key": "encode(sha256((step.place || ' ' || n)::bytea), 'hex')",
    "kind": "step.kind",
    "pool": "step.pool",
    "params": """'{"source": "file:///models/tiny"}'::jsonb""",
    "inputs": "'{}'::jsonb",
    "priority": "0",
    "memory_bytes": "1",
    "scratch_bytes": "1",
    "queued_at": _CREATED_AT,
    "ready_at": _CREATED_AT,
    "created_at": _CREATED_AT,
}
_EVENT = {
    "job_id": _JOB_ID,
    "number": "1",
    "level": "'info'",
    "type": "'state'",
    "message": "'The job is queued.'",
    "data": "'{}'::jsonb",
    "created_at": _CREATED_AT,
}
_OVER = {
    "started_at": f"{_CREATED_AT} + interval '100 ms'",
    "finished_at": f"{_CREATED_AT} + interval '900 ms'",
}
_RAN = {**_OVER, "attempt": "1", "token": "1", "facts": "step.facts", "status": "'succeeded'"}
_ATTEMPT = {
    "execution_id": _EXECUTION_ID,
    "number": "1",
    "worker_id": "'worker_0'",
    "host": "'host'",
    "device": "'cpu'",
    "started_at": _OVER["started_at"],
    "ended_at": _OVER["finished_at"],
    "outcome": "'succeeded'",
}
_ARTIFACT = {
    "id": _ARTIFACT_ID,
    "team_id": "team.id",
    "execution_id": _EXECUTION_ID,
    "role": "step.role",
    "format": "'gguf'",
    "digest": f"'{BLOB}'",
    "size_bytes": "4000000",
}
_FILE = {"artifact_id": _ARTIFACT_ID, "name": "'file ' || file", "sha256": f"'{BLOB}'", "size_bytes": "4000000"}
_EVALUATION = {
    "execution_id": _EXECUTION_ID,
    "domain": "domain",
    "perplexity": "7.5",
    "window_count": "40",
    "token_count": "10200",
    "window_nll": "array_fill(520.5, ARRAY[40])",
}


@dataclass(frozen=True)
class Jobs:
    """Numbers of jobs.

    Attributes:
        first: the oldest.
        count: how many.
        team: the place, by name and from 0, of the team of job ``n``, as an SQL expression.
        whole: which jobs have all six steps with all that these leave, as an SQL condition; others have their fetch.
    """

    first: int
    count: int
    team: str = ROUND_ROBIN
    whole: str = "FALSE"


def ready(connection: Connection, jobs: Jobs) -> None:
    """Write jobs whose one step is bound and ready to be claimed."""
    _write(connection, Job, {**_JOB, "status": "'queued'"}, jobs)
    _write(connection, Execution, {**_EXECUTION, "status": "'ready'"}, jobs, _each_step(jobs))
    _write(connection, Step, {**_STEP, "status": "'ready'"}, jobs, _each_step(jobs))
    _write(connection, Event, _EVENT, jobs)


def finished(connection: Connection, jobs: Jobs) -> None:
    """Write jobs that are over: of each hundred, two were cancelled at the end, and the others have succeeded."""
    steps = _each_step(jobs)
    whole = f"{steps} AND {jobs.whole}"
    status = "CASE WHEN n % 50 = 8 THEN 'cancelled' ELSE 'succeeded' END"
    _write(connection, Job, {**_JOB, **_OVER, "status": status}, jobs)
    _write(connection, Execution, {**_EXECUTION, **_RAN}, jobs, steps)
    _write(connection, Attempt, _ATTEMPT, jobs, steps)
    _write(connection, Step, {**_STEP, **_OVER, "status": "'succeeded'"}, jobs, steps)
    _write(connection, Event, _EVENT, jobs)
    if connection.scalar(select(Blob.sha256).limit(1)) is None:
        connection.execute(insert(Blob).values(sha256=BLOB, size_bytes=1, in_artifact=True))
    _write(connection, Artifact, _ARTIFACT, jobs, f"{whole} AND role IS NOT NULL")
    _write(
        connection, ArtifactFile, _FILE, jobs, f"{whole} JOIN LATERAL generate_series(1, step.files) AS file ON TRUE"
    )
    domains = "JOIN (VALUES ('prose'), ('code')) AS domains(domain) ON step.kind IN ('reference', 'evaluate')"
    _write(connection, Evaluation, _EVALUATION, jobs, f"{whole} {domains}")


def _each_step(jobs: Jobs) -> str:
    return f"JOIN {_STEPS} ON step.place = 0 OR {jobs.whole}"


def _write(
    connection: Connection, table: type[Base], columns: Mapping[str, str], jobs: Jobs, further: str = ""
) -> None:
    """Insert a row for each job, or for each that ``further`` joins to it."""
    teams = "SELECT id, count(*) OVER () AS total, row_number() OVER (ORDER BY name) - 1 AS place FROM teams"
    numbers = f"generate_series({jobs.first}, {jobs.first + jobs.count - 1}) AS n"
    source = text(f"{numbers} JOIN ({teams}) AS team ON team.place = {jobs.team} {further}")
    expressions: list[ColumnElement[Any]] = [literal_column(expression) for expression in columns.values()]
    rows = select(*expressions).select_from(source)
    connection.execute(insert(table).from_select(list(columns), rows))
