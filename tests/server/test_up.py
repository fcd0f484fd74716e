import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from core.errors import StartFailed
from server import up
from server.data_folder import DataFolder, Secrets
from server.embedded.ports import is_free
from server.processes import COMMANDS
from tests.server.conftest import PASSWORD
from tests.waiting import arguments, is_gone, wait_until

NAMES = {"postgres", "broker", *COMMANDS}


class Stack:
    """A running ``run_stack.py``."""

    def __init__(self, program: Path, data: Path, port: int = 0, **environment: str) -> None:
        self.data = data
        self.errors = data.parent / f"{data.name}.err"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.server.run_stack", program, data, str(port)],
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ready(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.said()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def said(self) -> str:
        return self.errors.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        assert rest == ""
        return self.process.returncode


@pytest.fixture
def data(tmp_path: Path, made_once: Path) -> Path:
    """A data folder that was used before, which saves the time of making a cluster."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    subprocess.run(["cp", "-a", made_once, folder / "postgres"], check=True)
    DataFolder(folder).save_secrets(Secrets(PASSWORD, "another-password"))
    return folder


@pytest.fixture
def run(stand_in: Path, data: Path) -> Iterator[Callable[..., Stack]]:
    with ExitStack() as cleanup:

        def start(folder: Path = data, port: int = 0, **environment: str) -> Stack:
            stack = Stack(stand_in, folder, port, **environment)
            cleanup.callback(stack.end)
            return stack

        yield start


def pids(ready: dict[str, Any]) -> dict[str, int]:
    return {process["name"]: process["pid"] for process in ready["processes"]}


def family(process: subprocess.Popen[str]) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]


def port_of(ready: dict[str, Any]) -> int:
    return int(ready["url"].rpartition(":")[2])


def test_whole_life(run: Callable[..., Stack], stand_in: Path, tmp_path: Path) -> None:
    stack = run(tmp_path / "new")
    ready = stack.ready()
    running = family(stack.process)
    assert set(ready) == {"url", "api_key", "database_url", "data_dir", "processes"}
    assert set(pids(ready)) == NAMES
    assert ready["data_dir"] == str(stack.data)
    for name, command in COMMANDS.items():
        assert arguments(pids(ready)[name]) == [sys.executable, str(stand_in), *command[1:]]
        assert os.getpgid(pids(ready)[name]) == pids(ready)[name], "a terminal's Ctrl-C must not reach it"
    secrets = json.loads((stack.data / "secrets.json").read_text())
    assert stat.S_IMODE((stack.data / "secrets.json").stat().st_mode) == 0o600
    for pid in (*running, stack.process.pid):
        assert not [secret for secret in secrets.values() if secret in " ".join(arguments(pid))]
    assert stack.end() == 0
    assert all(is_gone(pid) for pid in running)
    assert is_free("127.0.0.1", port_of(ready))
    assert not list((stack.data / "run").iterdir())


def test_restart_keeps_the_key_and_the_data(run: Callable[..., Stack]) -> None:
    first = run()
    ready = first.ready()
    key = ready["api_key"]
    with psycopg.connect(ready["database_url"]) as connection:
        connection.execute("CREATE TABLE kept ()")
    running = family(first.process)
    for pid in (first.process.pid, *running):
        with suppress(ProcessLookupError):  # it went with its parent
            os.kill(pid, signal.SIGKILL)
    second = run()
    assert second.ready()["api_key"] == key
    with psycopg.connect(environment_of(second)["FEWBITS_DATABASE_URL"]) as connection:
        connection.execute("SELECT FROM kept")


def environment_of(stack: Stack) -> dict[str, str]:
    worker = next(p for p in psutil.Process(stack.process.pid).children() if p.cmdline()[-1] == "gpu")
    return worker.environ()


def test_children_find_each_other_and_a_second_start_is_refused(run: Callable[..., Stack]) -> None:
    stack = run()
    ready = stack.ready()
    environment = environment_of(stack)
    assert environment["FEWBITS_STORE_URL"] == f"file://{stack.data}/store"
    assert environment["FEWBITS_SCRATCH_ROOT"] == f"{stack.data}/scratch"
    assert environment["FEWBITS_SOURCE_ROOTS"] == "/"
    assert environment["FEWBITS_API_PORT"] == str(port_of(ready))
    assert environment["FEWBITS_BROKER_URL"].startswith("redis://:")

    second = run()
    assert second.process.wait(30) == 1
    assert f"pid {stack.process.pid}" in second.said()
    assert not any(is_gone(pid) for pid in pids(ready).values())


def test_killed_parent_leaves_nothing(run: Callable[..., Stack]) -> None:
    stack = run()
    stack.ready()
    running = family(stack.process)
    stack.end(signal.SIGKILL)
    wait_until(lambda: all(is_gone(pid) for pid in running))


def test_what_ends_is_started_again(run: Callable[..., Stack]) -> None:
    stack = run()
    before = pids(stack.ready())
    listening = {name: ports(pid) for name, pid in before.items()}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in before.items():
        wait_until(partial(is_back, stack, name, pid, listening[name]))
        assert f"{name} ended with status -9; it starts again in 0.5 s" in stack.said()


def is_back(stack: Stack, name: str, before: int, listening: set[int] | None) -> bool:
    now = pid_now(stack, name)
    return now != before and ports(now) == listening


def pid_now(stack: Stack, name: str) -> int:
    """Return the pid that is kept of a process; 0 between two starts."""
    try:
        folder = name if name in ("postgres", "broker") else "run"
        pid: int = json.loads((stack.data / folder / f"{name}.pid").read_text())["pid"]
    except FileNotFoundError:
        return 0
    return pid


def ports(pid: int) -> set[int] | None:
    """Return the ports on which a process listens; None if it is not there."""
    try:
        connections = psutil.Process(pid).net_connections("tcp") if pid else None
    except psutil.Error:
        connections = None
    if connections is None:
        return None
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("starting postgres", signal.SIGINT),
        ("starting the broker", signal.SIGHUP),
        ("bringing", signal.SIGTERM),
        ("starting api", signal.SIGINT),
    ],
)
def test_signal_while_starting(run: Callable[..., Stack], tmp_path: Path, moment: str, number: signal.Signals) -> None:
    stack = run(tmp_path / "new") if moment == "starting postgres" else run()
    wait_until(lambda: moment in stack.said())
    running = family(stack.process)
    assert stack.end(number) == 0
    assert all(is_gone(pid) for pid in running)
    for process in psutil.process_iter(["cmdline"]):
        assert str(stack.data) not in " ".join(process.info["cmdline"] or [])


def test_own_parts_are_replaced_by_the_environments(run: Callable[..., Stack]) -> None:
    url = "postgresql://elsewhere/x"
    stack = run(FEWBITS_DATABASE_URL=url, FEWBITS_BROKER_URL="redis://elsewhere")
    ready = stack.ready()
    assert set(pids(ready)) == set(COMMANDS)
    assert ready["database_url"] == ""
    assert environment_of(stack)["FEWBITS_DATABASE_URL"] == url


def test_failed_migration_ends_the_start(run: Callable[..., Stack]) -> None:
    stack = run(STAND_IN_MIGRATE_STATUS="3")
    assert stack.process.wait(30) == 1
    assert "migrate ended with status 3" in stack.said()
    assert "argument list: ['migrate']" in stack.said(), "the end of the log is shown"


def test_taken_port_is_refused(run: Callable[..., Stack]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        stack = run(port=other.getsockname()[1])
        assert stack.process.wait(30) == 1
    assert "taken" in stack.said()


def test_default_port_gives_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setattr(up, "PORT", taken)
        assert up._choose_port("127.0.0.1", None) != taken
    assert f"port {taken} is taken" in capsys.readouterr().err
    assert up._choose_port("127.0.0.1", None) == taken


def test_folder_that_is_a_file_is_refused(run: Callable[..., Stack], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stack = run(tmp_path / "file")
    assert stack.process.wait(30) == 1
    assert "cannot be used" in stack.said()


def test_missing_program_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StartFailed, match="make setup"):
        up.Programs()
