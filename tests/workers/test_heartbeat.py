"""A heartbeat says that a loop turns, and nothing else: not that Postgres or the broker can be reached."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.conftest import REPOSITORY
from tests.waiting import wait_until
from tests.workers.conftest import Service

NOWHERE = {"FEWBITS_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x", "FEWBITS_BROKER_URL": "redis://127.0.0.1:1/0"}
CLAIM_WAITS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%given_up%'
"""


def alive(file: Path, within_seconds: float) -> int:
    program = [sys.executable, "-c", "from server.cli import main; main()", "alive", str(file)]
    return subprocess.run([*program, "--within", str(within_seconds)], cwd=REPOSITORY, check=False).returncode


def test_a_file_that_was_not_touched_lately_fails(tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    assert alive(file, 60) == 1
    file.touch()
    assert alive(file, 60) == 0
    minutes_ago = time.time() - 300
    os.utime(file, (minutes_ago, minutes_ago))
    assert alive(file, 60) == 1


def test_asking_loads_next_to_nothing() -> None:
    """A probe asks every half minute, on a node whose cores have other work."""
    program = "import sys, server.cli, core.heartbeat; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pydantic", "sqlalchemy", "celery", "structlog", "psutil"}.intersection(loaded)


@pytest.mark.parametrize("process", ["dispatch", "rescue"])
def test_a_loop_turns_without_postgres_and_broker(process: str, service: Service, tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    service.start(process, FEWBITS_HEARTBEAT_FILE=str(file), **NOWHERE)
    for _ in range(2):
        wait_until(file.exists)
        file.unlink()


def test_a_worker_looks_for_work_while_a_claim_waits_for_postgres(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    service.start("worker", "--pool", "cpu", FEWBITS_HEARTBEAT_FILE=str(file), FEWBITS_POLL_SECONDS="0.2")
    wait_until(file.exists, seconds=60)
    with service.database.transaction() as session:
        session.execute(text("LOCK TABLE team_usage IN ACCESS EXCLUSIVE MODE"))
        with service.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as observer:
            wait_until(lambda: bool(observer.scalar(text(CLAIM_WAITS))))
            for _ in range(5):
                file.unlink()
                wait_until(file.exists, seconds=3)
            wait_until(lambda: bool(observer.scalar(text(CLAIM_WAITS))))
