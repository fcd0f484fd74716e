"""What is on record of the finished steps of a job. Refuses to know what is written of it, and where."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.manifest import StoredFile
from core.steps import Done

_DONE = text("""
    SELECT steps.kind, coalesce(executions.facts, '{}') AS facts, artifacts.digest, (
        SELECT json_agg(json_build_object('name', name, 'sha256', sha256, 'size_bytes', size_bytes))
        FROM artifact_files WHERE artifact_id = artifacts.id
    ) AS files, coalesce((
        SELECT json_object_agg(domain, json_build_object(
            'perplexity', perplexity, 'windows', window_count, 'tokens', token_count, 'measures', measures
        ))
        FROM evaluations WHERE execution_id = executions.id
    ), '{}') AS scores, json_build_object(
        'memory_bytes', coalesce(attempts.forecast_memory_bytes, executions.memory_bytes),
        'vram_bytes', coalesce(attempts.forecast_vram_bytes, executions.vram_bytes),
        'scratch_bytes', coalesce(attempts.forecast_scratch_bytes, executions.scratch_bytes)
    ) AS forecast, json_build_object(
        'memory_bytes', attempts.peak_memory_bytes, 'vram_bytes', attempts.peak_vram_bytes,
        'scratch_bytes', attempts.peak_scratch_bytes
    ) AS peak
    FROM steps
    JOIN executions ON executions.id = steps.execution_id
    LEFT JOIN artifacts ON artifacts.execution_id = executions.id
    LEFT JOIN attempts ON attempts.execution_id = executions.id AND attempts.number = executions.attempt
    WHERE steps.job_id = :job_id AND steps.status = 'succeeded'
""")


def done_steps(session: Session, job_id: str) -> Mapping[str, Done]:
    """Return what is on record of each finished step of a job, by its kind."""
    rows = session.execute(_DONE, {"job_id": job_id}).mappings()
    return {row["kind"]: _done(dict(row)) for row in rows}


def _done(row: Mapping[str, Any]) -> Done:
    values = {name: value for name, value in row.items() if name not in ("kind", "files")}
    return Done(files=sorted(StoredFile(**file) for file in row["files"] or ()), **values)
