"""A service that is told to stop while it still starts has begun nothing, and exits 0."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.processes import COMMANDS, MIGRATE
from tests.conftest import REPOSITORY
from tests.waiting import wait_until

FEWBITSD = "from server.cli import main; main()"
# Where what a command is made of would be imported, this waits in its place for a signal.
IMPORTS_FOR_EVER = f"""
import signal, sys

class Endless:
    def find_spec(self, name, path, target=None):
        if name in {{"server.api", "server.migrate", "workers.worker", "workers.dispatch", "workers.rescue"}}:
            print("importing", name, flush=True)
            signal.pause()

sys.meta_path.insert(0, Endless())
{FEWBITSD}
"""


@contextmanager
def started(folder: Path, program: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Start ``fewbitsd`` with nothing that it could reach."""
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "FEWBITS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "FEWBITS_BROKER_URL": "redis://127.0.0.1:1",
        "FEWBITS_STORE_URL": folder.as_uri(),
        "FEWBITS_SCRATCH_ROOT": str(folder),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def catches(pid: int, number: signal.Signals) -> bool:
    """Say whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("service", COMMANDS)
def test_a_service_that_still_imports_exits_0(service: str, number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, IMPORTS_FOR_EVER, *COMMANDS[service][1:]) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("importing")
        process.send_signal(number)
        assert process.wait(20) == 0


@pytest.mark.parametrize("service", COMMANDS)
def test_a_service_that_is_told_at_once_exits_0(service: str, tmp_path: Path) -> None:
    with started(tmp_path, FEWBITSD, *COMMANDS[service][1:]) as process:
        wait_until(lambda: catches(process.pid, signal.SIGTERM))
        process.terminate()
        assert process.wait(20) == 0


def test_a_migration_that_was_not_made_is_no_success(tmp_path: Path) -> None:
    with started(tmp_path, IMPORTS_FOR_EVER, *MIGRATE[1:]) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("importing")
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
