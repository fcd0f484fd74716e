"""The whole stack as a user has it: ``fewbitsd up`` in a process of its own, spoken to by the ``fewbits`` command."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fewbits_client import Client
from tests.conftest import TINY_LLAMA
from tests.waiting import is_gone, wait_until

BIN = Path(sys.executable).parent
START_SECONDS = 120
STOP_SECONDS = 60


@dataclass
class Up:
    """A running stack."""

    process: subprocess.Popen[str]
    url: str
    api_key: str
    database_url: str
    data_dir: str
    pids: dict[str, int]

    def client(self) -> Client:
        return Client(self.url, self.api_key)

    def cli(self, *arguments: str | Path, key: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the ``fewbits`` command."""
        environment = os.environ | {"FEWBITS_URL": self.url, "FEWBITS_API_KEY": key or self.api_key}
        command = [str(BIN / "fewbits"), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)

    def stop(self) -> None:
        """End it with SIGTERM; nothing of it may be left."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_SECONDS) == 0
        assert all(is_gone(pid) for pid in self.pids.values())

    def kill_everything(self) -> None:
        """End every process at once, as a power cut does."""
        for pid in (self.process.pid, *self.pids.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        for pid in self.pids.values():
            wait_until(lambda p=pid: is_gone(p))  # type: ignore[misc]


def start(data: Path, *sources: Path, **environment: str) -> Up:
    """Start a stack on a data folder and a free port, and wait until it is ready."""
    command = [str(BIN / "fewbitsd"), "up", "--json", "--data", str(data), "--port", "0"]
    for source in sources:
        command += ["--sources", str(source)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FEWBITS_")}
    with data.with_suffix(".log").open("a") as log:
        process = subprocess.Popen(
            command, env=clean | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()
    if not line:
        process.wait(STOP_SECONDS)
        pytest.fail(f"the stack did not start:\n{data.with_suffix('.log').read_text()}")
    ready: dict[str, Any] = json.loads(line)
    pids = {entry["name"]: entry["pid"] for entry in ready["processes"]}
    return Up(process, ready["url"], ready["api_key"], ready["database_url"], ready["data_dir"], pids)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which tests make models, good and bad."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Up]:
    """One stack for the tests that leave it as it was."""
    stack = start(tmp_path_factory.mktemp("up") / "data", TINY_LLAMA, models)
    try:
        yield stack
        stack.stop()
    finally:
        if stack.process.poll() is None:
            stack.kill_everything()
