"""Postgres refuses impossible rows, and knows the same statuses as the code."""

import re
from enum import StrEnum

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from db.states import ExecutionStatus, JobStatus, Status, StepStatus, origins, terminal
from tests.db.conftest import Bench


@pytest.mark.parametrize(
    ("table", "enum"), [("jobs", JobStatus), ("steps", StepStatus), ("executions", ExecutionStatus)]
)
def test_the_enums_equal_postgres(bench: Bench, table: str, enum: type[StrEnum]) -> None:
    query = text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name")
    with bench.database.transaction() as session:
        definition = session.execute(query, {"name": f"ck_{table}_status_known"}).scalar_one()
    assert set(re.findall(r"'(\w+)'", definition)) == {status.value for status in enum}


@pytest.mark.parametrize("status", [*JobStatus, *StepStatus, *ExecutionStatus], ids=repr)
def test_every_status_but_the_first_can_be_reached(status: Status) -> None:
    # An execution is made ready, and comes back to it; a step without needs is made ready.
    assert bool(origins(status)) == (repr(status) not in {repr(JobStatus.QUEUED), repr(StepStatus.WAITING)})


def test_nothing_follows_a_terminal_status() -> None:
    assert terminal(JobStatus) == ["succeeded", "failed", "cancelled"]
    assert terminal(StepStatus) == ["succeeded", "failed", "cancelled", "skipped"]
    assert terminal(ExecutionStatus) == ["succeeded", "failed", "cancelled"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET status = 'succeeded'",
        "UPDATE jobs SET status = 'failed', finished_at = now()",
        "UPDATE jobs SET status = 'sleeping'",
        "UPDATE jobs SET started_at = now()",
        "UPDATE jobs SET priority = 101",
        "UPDATE steps SET status = 'running' WHERE kind = 'fetch'",
        "UPDATE steps SET status = 'succeeded', finished_at = now() WHERE kind = 'quantize'",
        "UPDATE steps SET kind = 'fetch'",
    ],
)
def test_impossible_rows_are_refused(bench: Bench, statement: str) -> None:
    bench.submit()
    with pytest.raises(IntegrityError), bench.database.transaction() as session:
        session.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE executions SET status = 'running'",
        "UPDATE executions SET status = 'succeeded'",
        "UPDATE executions SET status = 'failed', finished_at = now()",
        "UPDATE executions SET stop_requested_at = now()",
        "UPDATE executions SET key = repeat('0', 64)",
        "UPDATE executions SET pool = 'tpu'",
    ],
)
def test_impossible_executions_are_refused(bench: Bench, statement: str) -> None:
    bench.submit(source="file:///a")
    bench.submit(source="file:///b")
    bench.bind_all()
    with pytest.raises(IntegrityError), bench.database.transaction() as session:
        session.execute(text(statement))
