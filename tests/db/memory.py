"""What a test has seen of the rows: what was final may not change, what only grows may not shrink.

Refuses to know why anything changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from db.session import Database

TERMINAL = {"succeeded", "failed", "cancelled", "skipped"}
# Each row by its id: its status, then what may only grow.
_FINAL = {
    "jobs": "SELECT id, status, finished_at, error, event_count FROM jobs",
    "steps": "SELECT id, status, finished_at, error, execution_id FROM steps",
    "executions": "SELECT id, status, finished_at, error, facts FROM executions",
    "attempts": "SELECT execution_id || ' ' || number, outcome, ended_at, error, started_at, worker_id FROM attempts",
    "artifacts": "SELECT id, 'succeeded', digest FROM artifacts",
    "artifact_files": "SELECT artifact_id || ' ' || name, 'succeeded', sha256 FROM artifact_files",
    "events": "SELECT job_id || ' ' || number, 'succeeded', message, data FROM events",
}
_GROWING = "SELECT id, token, attempt, failure_count, lost_count FROM executions"
# What only the holder of a lease may change, and what would tell that somebody else did.
_TOLD = ("jobs", "steps", "executions", "attempts", "artifacts", "artifact_files", "events")
_WRITTEN = (*_TOLD, "blobs", "blob_intents", "checkpoint_files", "log_chunks", "metrics", "evaluations", "team_usage")
_DIGEST = (
    "SELECT '{name}', md5(coalesce(string_agg(CAST(t AS text), ' ' ORDER BY CAST(t AS text)), '')) FROM {name} AS t"
)
_EVERYTHING = " UNION ALL ".join(_DIGEST.format(name=name) for name in _WRITTEN)


@dataclass
class Memory:
    """The rows as they were last seen."""

    database: Database
    final: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)
    grown: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def look(self) -> list[str]:
        """Return what has changed since the last look and may not have."""
        wrong: list[str] = []
        with self.database.transaction() as session:
            for table, query in _FINAL.items():
                rows = {(table, row[0]): tuple(row[1:]) for row in session.execute(text(query))}
                seen = {key: row for key, row in self.final.items() if key[0] == table}
                wrong += [
                    f"{key} was {row} and is {rows.get(key)}" for key, row in seen.items() if rows.get(key) != row
                ]
                self.final.update({key: row for key, row in rows.items() if row[0] in _over(table)})
            grown = {row[0]: tuple(row[1:]) for row in session.execute(text(_GROWING))}
        for key, before in self.grown.items():
            if key in grown and any(now < then for now, then in zip(grown[key], before, strict=True)):
                wrong.append(f"{key} had {before} and has {grown[key]}")
        self.grown = grown
        return wrong

    def everything(self) -> Mapping[str, str]:
        """Return a digest of each table that a holder of a lease writes to."""
        with self.database.transaction() as session:
            return {row[0]: row[1] for row in session.execute(text(_EVERYTHING))}


def _over(table: str) -> set[str]:
    return {"succeeded", "failed", "lost", "released", "cancelled"} if table == "attempts" else TERMINAL
