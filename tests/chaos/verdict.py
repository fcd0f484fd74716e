"""What went wrong, if anything: read from the witness, the tables, the store and the machine when all is over."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import WorkerKiller
from tests.chaos.load import Accepted
from tests.chaos.stack import DEATHS_MAX, WORKERS, Stack
from tests.chaos.steps import TESTIMONY
from tests.chaos.witness import Row, Witness

OPEN = """
    SELECT 'job', id, status FROM jobs WHERE status NOT IN ('succeeded', 'failed', 'cancelled')
    UNION ALL
    SELECT 'step', id, status FROM steps WHERE status NOT IN ('succeeded', 'failed', 'cancelled', 'skipped')
    UNION ALL
    SELECT 'execution', id, status FROM executions WHERE status NOT IN ('succeeded', 'failed', 'cancelled')
"""
TERMINAL_CHANGES = """
    SELECT kind, row_id, old_status || ' became ' || coalesce(new_status, 'nothing') FROM witness.changes
    WHERE old_status IN ('succeeded', 'failed', 'cancelled', 'skipped') AND new_status IS DISTINCT FROM old_status
"""
# The claims that began while an order held, with how many executions the team then ran in the pool, and the jobs that
# came to be queued, with how many the team then had. What ends is noted before it is committed, what begins before the
# next that is counted with it, so that no count is higher than what was there.
OBEYING = """
    WITH steps AS (
        SELECT *, CASE kind WHEN 'jobs' THEN 'queued' ELSE 'running' END AS state FROM witness.changes
        WHERE kind IN ('jobs', 'executions')
    ), moves AS (
        SELECT *, new_status IS NOT DISTINCT FROM state AND old_status IS DISTINCT FROM state AS enters,
            old_status IS NOT DISTINCT FROM state AND new_status IS DISTINCT FROM state AS leaves FROM steps
    ), counted AS (
        SELECT *, sum(enters::int - leaves::int) OVER (PARTITION BY team_id, kind, pool ORDER BY number) AS count
        FROM moves
    )
    SELECT counted.row_id, orders.subject, orders.pool, count, counted.began FROM counted JOIN witness.orders
    ON enters AND counted.began > orders.since AND counted.began < orders.until WHERE
"""
DUPLICATES: Mapping[str, str] = {
    "an execution has succeeded twice": """
        SELECT row_id, count(*) FROM witness.changes
        WHERE kind = 'executions' AND new_status = 'succeeded' GROUP BY row_id HAVING count(*) > 1
    """,
    "an execution was claimed without a new token": """
        SELECT row_id, new_token FROM witness.changes
        WHERE kind = 'executions' AND new_status = 'running' AND old_status <> 'running' AND new_token <= old_token
    """,
    "a token has gone back": "SELECT row_id, old_token, new_token FROM witness.changes WHERE new_token < old_token",
    "one request has made several jobs": """
        SELECT metadata ->> 'request', retry_of, count(*) FROM jobs GROUP BY 1, 2 HAVING count(*) > 1
    """,
    "one thing has happened twice to a job": """
        SELECT job_id, message, count(*) FROM events
        WHERE message LIKE '%has succeeded.' OR message LIKE 'The job %' GROUP BY 1, 2 HAVING count(*) > 1
    """,
    "one piece of work has several results": """
        SELECT key, count(*) FROM executions
        WHERE status = 'succeeded' AND lost_at IS NULL GROUP BY key HAVING count(*) > 1
    """,
    "a write that came too late": """
        SELECT what, execution_id, detail FROM witness.violations
    """,
    "more than one layer was quantized again after a worker had left": """
        SELECT attempts.execution_id, attempts.number, count(DISTINCT again.layer)
        FROM attempts JOIN executions ON executions.id = attempts.execution_id
        JOIN metrics once ON once.execution_id = attempts.execution_id AND once.attempt = attempts.number
        JOIN metrics again ON again.execution_id = attempts.execution_id AND again.attempt = attempts.number + 1
            AND (again.layer, again.module) = (once.layer, once.module)
        WHERE outcome = 'released' AND executions.params #>> '{recipe,method}' = 'gptq'
        GROUP BY attempts.execution_id, attempts.number HAVING count(DISTINCT again.layer) > 1
    """,
    "work was claimed in a paused pool": f"""
        {OBEYING} what = 'paused' AND kind = 'executions' AND subject = counted.pool
    """,
    "a drained worker has claimed work": f"""
        {OBEYING} what = 'drained' AND kind = 'executions' AND subject = worker_id
    """,
    "a team has run more than its quota": f"""
        {OBEYING} what = 'limited' AND kind = 'executions' AND subject = team_id AND orders.pool = counted.pool
            AND count > maximum
    """,
    "a team has queued more than its quota": f"""
        {OBEYING} what = 'limited' AND kind = 'jobs' AND subject = team_id AND orders.pool IS NULL AND count > maximum
    """,
    "a drained worker did not finish what it ran": """
        SELECT worker_id, execution_id, number, outcome FROM attempts JOIN witness.orders
        ON what = 'drained' AND subject = worker_id AND ended_at > since AND ended_at < until
        WHERE outcome IN ('lost', 'released')
    """,
}
DEATHS = """
    SELECT executions.id, executions.status, count(number)
    FROM executions LEFT JOIN attempts ON execution_id = executions.id AND outcome = 'lost' GROUP BY executions.id
    HAVING count(number) > %s
        OR executions.error ->> 'code' = %s AND count(number) <> %s
"""
GAPS = """
    SELECT jobs.id, event_count, count(number) FROM jobs LEFT JOIN events ON job_id = jobs.id
    GROUP BY jobs.id HAVING count(number) <> event_count OR coalesce(max(number), 0) <> event_count
"""
UNRECORDED = """
    SELECT executions.id, attempt, count(outcome) FROM executions LEFT JOIN attempts ON execution_id = executions.id
    WHERE executions.finished_at IS NOT NULL GROUP BY executions.id HAVING count(outcome) <> attempt
"""
UNFINISHED = """
    SELECT jobs.id, steps.kind, steps.status, executions.status
    FROM jobs JOIN steps ON job_id = jobs.id LEFT JOIN executions ON executions.id = execution_id
    WHERE jobs.status = 'succeeded'
      AND (steps.status <> 'succeeded' OR executions.status IS DISTINCT FROM 'succeeded')
"""
FILES = """
    SELECT executions.id, token, name, sha256 FROM executions
    JOIN artifacts ON execution_id = executions.id JOIN artifact_files ON artifact_id = artifacts.id
    ORDER BY executions.id, name
"""
UNPINNED = "SELECT sha256 FROM blobs WHERE NOT EXISTS (SELECT FROM artifact_files f WHERE f.sha256 = blobs.sha256)"


@dataclass
class Findings:
    """What went wrong, each in words; all empty after a good run."""

    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    duplicate_effects: list[str] = field(default_factory=list)
    terminal_changes: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return how many of each there are."""
        return {name: len(found) for name, found in vars(self).items()}


def judge(witness: Witness, accepted: Mapping[str, Accepted], stack: Stack) -> Findings:
    """Look at everything once; Postgres must be there."""
    findings = Findings(
        stuck=[_words(row) for row in _asked(witness, OPEN)],
        duplicate_effects=duplicate_effects(witness),
        terminal_changes=terminal_changes(witness),
        orphans=orphans(witness, stack),
    )
    findings.lost = _lost(witness, accepted)
    for execution_id, token, name, sha256 in _asked(witness, FILES):
        path = _blob(stack.store, sha256)
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != sha256:
            findings.lost.append(f"the bytes of {name} of {execution_id}")
        elif name == TESTIMONY and json.loads(content)["folder"] != f"{execution_id}-{token}":
            findings.duplicate_effects.append(f"{execution_id}, token {token}, has the result {content.decode()}")
    return findings


def duplicate_effects(witness: Witness) -> list[str]:
    """Return what has happened twice, by what the database shows alone."""
    found = [f"{what}: {_words(row)}" for what, query in DUPLICATES.items() for row in _asked(witness, query)]
    deadly = _asked(witness, DEATHS, DEATHS_MAX, WorkerKiller.code, DEATHS_MAX)
    return found + [f"{DEATHS_MAX} workers were to die over a piece of work: {_words(row)}" for row in deadly]


def terminal_changes(witness: Witness) -> list[str]:
    """Return the final rows that have changed their status."""
    return [_words(row) for row in _asked(witness, TERMINAL_CHANGES)]


def orphans(witness: Witness, stack: Stack) -> list[str]:
    """Return what is left over while nothing is to be done: processes, blobs, intents, folders."""
    known = {row[0] for row in _asked(witness, "SELECT sha256 FROM blobs")}
    stored = {path.name for path in (stack.store / "blobs").glob("*/*")}
    folders = list(stack.scratch.glob("scratch_*"))
    found = [f"process {process.pid}" for process in stack.offspring()]
    found += [f"blob {sha256} without a row" for sha256 in stored - known]
    found += [f"blob {row[0]} that nothing uses" for row in _asked(witness, UNPINNED)]
    found += [f"intent of {row[0]}" for row in _asked(witness, "SELECT execution_id FROM blob_intents")]
    found += [f"checkpoint of {row[0]}" for row in _asked(witness, "SELECT execution_id FROM checkpoint_files")]
    found += [f"{path} in the store" for path in (stack.store / "arriving").glob("*")]
    found += [f"{path}" for folder in folders for path in folder.iterdir() if path.name != "lock"]
    found += [f"{len(folders)} scratch folders of {len(WORKERS)} workers"] * (len(folders) != len(WORKERS))
    return found


def _lost(witness: Witness, accepted: Mapping[str, Accepted]) -> list[str]:
    ended = {row[0]: (row[1], row[2]) for row in _asked(witness, "SELECT id, status, error FROM jobs")}
    found = [f"{job_id} ({job.planned.name}) is not there" for job_id, job in accepted.items() if job_id not in ended]
    found += [f"events of a job are missing: {_words(row)}" for row in _asked(witness, GAPS)]
    found += [f"attempts have left no record of their end: {_words(row)}" for row in _asked(witness, UNRECORDED)]
    found += [f"a step of a job that has succeeded is not done: {_words(row)}" for row in _asked(witness, UNFINISHED)]
    for job_id, job in accepted.items():
        status, error = ended.get(job_id, (None, None))
        if status in ("succeeded", "failed", "cancelled") and status not in job.ends:
            found.append(f"{job_id} ({job.planned.name}) has {status}, not {'/'.join(sorted(job.ends))}: {error}")
        elif status == "failed" and (error["code"] == WorkerKiller.code) != job.planned.is_poison:
            blamed = "not " * job.planned.is_poison + "held to kill workers"
            found.append(f"{job_id} ({job.planned.name}) was {blamed}: {error}")
    return found


def _asked(witness: Witness, query: str, *values: Any) -> Sequence[Row]:
    rows = witness.ask(query, *values)
    if rows is None:
        raise ConnectionError("Postgres does not answer when nothing is to hit it any more")
    return rows


def _words(row: Row) -> str:
    return " ".join(map(str, row))


def _blob(store: Path, sha256: str) -> Path:
    return store / "blobs" / sha256[:2] / sha256
