"""What rows may never say, whatever happened."""

from sqlalchemy import text

from db.session import Database

# Each query returns what must not be there.
IMPOSSIBLE = {
    "a job that is over has live steps": """
        SELECT j.id FROM jobs j JOIN steps s ON s.job_id = j.id
        WHERE j.status IN ('succeeded', 'failed', 'cancelled') AND s.status IN ('waiting', 'ready', 'running')""",
    "a job has succeeded without all of its steps": """
        SELECT j.id FROM jobs j JOIN steps s ON s.job_id = j.id
        WHERE j.status = 'succeeded' AND s.status <> 'succeeded'""",
    "a job that is open has no way forward": """
        SELECT j.id FROM jobs j WHERE j.status IN ('queued', 'running') AND NOT EXISTS (
            SELECT FROM steps s LEFT JOIN executions e ON e.id = s.execution_id
            WHERE s.job_id = j.id AND s.status IN ('ready', 'running')
            AND (e.id IS NULL OR e.status IN ('ready', 'running') AND e.stop_requested_at IS NULL))""",
    "a step is more than waiting before what it needs has succeeded": """
        SELECT s.id FROM steps s JOIN steps needed ON needed.job_id = s.job_id AND needed.kind = ANY (s.needs)
        WHERE s.status IN ('ready', 'running', 'succeeded') AND needed.status <> 'succeeded'""",
    "a step waits though all that it needs has succeeded": """
        SELECT s.id FROM steps s WHERE s.status = 'waiting' AND NOT EXISTS (
            SELECT FROM steps needed
            WHERE needed.job_id = s.job_id AND needed.kind = ANY (s.needs) AND needed.status <> 'succeeded')""",
    "a running step's execution does not run": """
        SELECT s.id FROM steps s JOIN executions e ON e.id = s.execution_id
        WHERE s.status = 'running' AND e.status <> 'running'""",
    "a bound step is ready though its execution is not": """
        SELECT s.id FROM steps s JOIN executions e ON e.id = s.execution_id
        WHERE s.status = 'ready' AND e.status <> 'ready'""",
    "a step has succeeded though its execution has not": """
        SELECT s.id FROM steps s JOIN executions e ON e.id = s.execution_id
        WHERE s.status = 'succeeded' AND e.status <> 'succeeded'""",
    "something runs beside what is alone on its host": """
        SELECT e.id FROM executions e JOIN workers w ON w.id = e.worker_id
        JOIN workers others ON others.host = w.host JOIN executions other ON other.worker_id = others.id
        WHERE e.status = 'running' AND other.status = 'running' AND e.is_exclusive AND other.id <> e.id""",
    "an execution goes on that nobody wants": """
        SELECT e.id FROM executions e WHERE e.status IN ('ready', 'running') AND e.stop_requested_at IS NULL
        AND NOT EXISTS (SELECT FROM steps s WHERE s.execution_id = e.id AND s.status IN ('ready', 'running'))""",
    "an execution is being stopped that somebody wants": """
        SELECT e.id FROM executions e JOIN steps s ON s.execution_id = e.id
        WHERE e.status = 'running' AND e.stop_requested_at IS NOT NULL AND s.status IN ('ready', 'running')""",
    "a job is cancelling with nothing to stop": """
        SELECT j.id FROM jobs j WHERE j.status = 'cancelling' AND NOT EXISTS (
            SELECT FROM steps s JOIN executions e ON e.id = s.execution_id
            WHERE s.job_id = j.id AND e.status = 'running' AND e.stop_requested_at IS NOT NULL)""",
    "a queued job has a step that has started": """
        SELECT j.id FROM jobs j JOIN steps s ON s.job_id = j.id WHERE j.status = 'queued' AND s.status = 'running'""",
    "an execution's place is not that of the first of its jobs": """
        SELECT e.id FROM executions e WHERE e.status = 'ready' AND (e.priority, e.queued_at) <> (
            SELECT max(j.priority), min(j.created_at) FROM steps s JOIN jobs j ON j.id = s.job_id
            WHERE s.execution_id = e.id AND s.status IN ('ready', 'running'))""",
    "an execution is another team's than its jobs": """
        SELECT e.id FROM executions e JOIN steps s ON s.execution_id = e.id JOIN jobs j ON j.id = s.job_id
        WHERE e.team_id <> j.team_id""",
    "events have gaps": """
        SELECT j.id FROM jobs j
        WHERE j.event_count <> (SELECT count(*) FROM events e WHERE e.job_id = j.id)
        OR j.event_count <> (SELECT max(number) FROM events e WHERE e.job_id = j.id)""",
    "attempts have gaps": """
        SELECT e.id FROM executions e
        WHERE e.attempt <> (SELECT count(*) FROM attempts a WHERE a.execution_id = e.id)
        OR e.attempt <> (SELECT coalesce(max(number), 0) FROM attempts a WHERE a.execution_id = e.id)""",
    "not exactly the last attempt of what runs is open": """
        SELECT e.id FROM executions e JOIN attempts a ON a.execution_id = e.id
        WHERE (a.outcome IS NULL) <> (e.status = 'running' AND a.number = e.attempt)""",
    "the counts of failures are not those of the attempts": """
        SELECT e.id FROM executions e WHERE (e.failure_count, e.lost_count) <> (
            SELECT count(*) FILTER (WHERE outcome IN ('failed', 'lost')), count(*) FILTER (WHERE outcome = 'lost')
            FROM attempts a WHERE a.execution_id = e.id)""",
    "the last attempt says otherwise than its execution": """
        SELECT e.id FROM executions e JOIN attempts a ON a.execution_id = e.id AND a.number = e.attempt
        WHERE e.status = 'succeeded' AND a.outcome <> 'succeeded'
        OR e.status = 'ready' AND a.outcome NOT IN ('failed', 'lost', 'released')""",
    "an artifact is visible before its execution has succeeded": """
        SELECT a.id FROM artifacts a JOIN executions e ON e.id = a.execution_id WHERE e.status <> 'succeeded'""",
    "a file is visible without its blob": """
        SELECT f.name FROM artifact_files f WHERE NOT EXISTS (SELECT FROM blobs b WHERE b.sha256 = f.sha256)""",
    "a checkpoint outlives its execution": """
        SELECT c.name FROM checkpoint_files c JOIN executions e ON e.id = c.execution_id
        WHERE e.status NOT IN ('ready', 'running')""",
    "an artifact's blob may be collected": """
        SELECT f.name FROM artifact_files f JOIN blobs b USING (sha256) WHERE NOT b.in_artifact""",
    "a dataset's blob may be collected": """
        SELECT t.id FROM datasets t JOIN blobs b USING (sha256) WHERE NOT b.in_artifact""",
    "a blob that nothing has is never collected": """
        SELECT b.sha256 FROM blobs b WHERE b.in_artifact
        AND NOT EXISTS (SELECT FROM artifact_files f WHERE f.sha256 = b.sha256)
        AND NOT EXISTS (SELECT FROM datasets t WHERE t.sha256 = b.sha256)""",
    "an intent outlives its execution": """
        SELECT i.sha256 FROM blob_intents i JOIN executions e ON e.id = i.execution_id WHERE e.status = 'succeeded'""",
}
# One statement: it is asked after every step of a test.
_ALL = " UNION ALL ".join(f"SELECT {number} WHERE EXISTS ({query})" for number, query in enumerate(IMPOSSIBLE.values()))


def nonsense(database: Database) -> list[str]:
    """Return what the rows say that cannot be."""
    with database.transaction() as session:
        return [list(IMPOSSIBLE)[number] for number in session.scalars(text(_ALL))]
