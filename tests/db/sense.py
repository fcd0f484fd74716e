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
    "a running step's execution does not run": """
        SELECT s.id FROM steps s JOIN executions e ON e.id = s.execution_id
        WHERE s.status = 'running' AND e.status <> 'running'""",
    "a bound step is ready though its execution is not": """
        SELECT s.id FROM steps s JOIN executions e ON e.id = s.execution_id
        WHERE s.status = 'ready' AND e.status <> 'ready'""",
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
    "an execution's priority is not the highest of its jobs": """
        SELECT e.id FROM executions e WHERE e.status = 'ready' AND e.priority <> (
            SELECT max(j.priority) FROM steps s JOIN jobs j ON j.id = s.job_id
            WHERE s.execution_id = e.id AND s.status IN ('ready', 'running'))""",
    "events have gaps": """
        SELECT j.id FROM jobs j WHERE j.event_count <> (SELECT count(*) FROM events e WHERE e.job_id = j.id)""",
}


def nonsense(database: Database) -> list[str]:
    """Return what the rows say that cannot be."""
    with database.transaction() as session:
        return [what for what, query in IMPOSSIBLE.items() if session.execute(text(query)).all()]
