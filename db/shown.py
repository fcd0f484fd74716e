"""Jobs as their team sees them, each whole, with its steps and what came of them: however many, by one statement.

Refuses to know: which jobs are asked for (``db/jobs.py``), and how they are presented.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Label, Select, literal_column, select
from sqlalchemy.orm import Session

from db.tables import Job


@dataclass(frozen=True)
class ShownStep:
    """A step, with its execution if it has one.

    Attributes:
        attempt: the execution's, 0 before the first.
        facts: what the execution found out, once it has succeeded, but for the losses of modules, which are many.
        scores: by domain, where it measured any: ``perplexity``, how many ``items`` and ``tokens`` were scored, and
            ``measures`` beside full precision, each a ``value`` with the ``low`` and ``high`` end of its interval.
    """

    id: str
    kind: str
    status: str
    pool: str
    reused: bool
    error: Mapping[str, Any] | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    attempt: int
    progress: Mapping[str, Any] | None
    facts: Mapping[str, Any] | None
    scores: Mapping[str, Mapping[str, Any]] | None


@dataclass(frozen=True)
class ShownJob:
    """A job and its steps, in their order."""

    id: str
    status: str
    source: str
    method: str
    recipe: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    gate: Sequence[Mapping[str, Any]]
    metadata: Mapping[str, str]
    labels: Sequence[str]
    retry_of: str | None
    sweep_id: str | None
    sweep_position: int | None
    priority: int
    max_runtime_seconds: int | None
    max_pending_seconds: int | None
    max_attempts: int | None
    wait_for_capacity: bool
    publish_to: str | None
    benchmark: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    event_count: int
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    steps: Sequence[ShownStep]


_STEP_TIMES = ("started_at", "finished_at")
# Rows as objects of the ORM, of which a page of fifty jobs has 1,300, take three times as long.
_STEPS: Label[Any] = literal_column("""(
    SELECT json_agg(json_build_object(
        'id', steps.id, 'kind', steps.kind, 'status', steps.status, 'pool', steps.pool, 'reused', steps.reused,
        'error', steps.error, 'started_at', steps.started_at, 'finished_at', steps.finished_at,
        'attempt', coalesce(executions.attempt, 0), 'progress', executions.progress,
        'facts', executions.facts - 'losses' - 'generations', 'scores', (
            SELECT json_object_agg(domain, json_build_object(
                'perplexity', perplexity, 'items', window_count, 'tokens', token_count, 'measures', measures
            ))
            FROM evaluations WHERE execution_id = executions.id
        )
    ) ORDER BY steps.position)
    FROM steps LEFT JOIN executions ON executions.id = steps.execution_id
    WHERE steps.job_id = jobs.id
)""").label("steps")
_COLUMNS = [Job.__table__.c[field.name] for field in fields(ShownJob) if field.name != "steps"]


def jobs() -> Select[Any]:
    """Return a statement, to be narrowed and ordered, that selects jobs for ``read``."""
    return select(*_COLUMNS, _STEPS)


def read(session: Session, statement: Select[Any]) -> list[ShownJob]:
    """Return the jobs that a statement selects."""
    rows = session.execute(statement).mappings()
    return [ShownJob(**{**row, "steps": [_step(step) for step in row["steps"] or ()]}) for row in rows]


def _step(document: Mapping[str, Any]) -> ShownStep:
    times = {name: document[name] and dt.datetime.fromisoformat(document[name]) for name in _STEP_TIMES}
    return ShownStep(**{**document, **times})
