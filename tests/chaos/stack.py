"""The real stack as processes that can be hit: Postgres, broker, API, dispatch, rescue, two workers of each pool.

Keeps them running as ``fewbitsd up`` does, and knows which children each worker has, by asking the machine and not
the service. Used from one thread, which must live as long as the stack.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil

from core.errors import StartFailed
from server.embedded.broker import Broker
from server.embedded.child import Child, Command, failure, start_child, wait_for
from server.embedded.ports import free_port
from server.embedded.postgres import Postgres
from server.migrate import upgrade
from server.supervision import Supervisor
from tests.chaos.steps import MODULE
from tests.conftest import REPOSITORY

LEASE_SECONDS = 3
DEATHS_MAX = 3
SHUTDOWN_SECONDS = 10
SLOTS = 2
READY_SECONDS = 120.0
COMMAND_SECONDS = 60.0
POSTGRES_IS_AWAY = "Postgres does not answer"
FAILURES_BEFORE_READY_MAX = 3
FEWBITSD = (sys.executable, "-c", "from server.cli import main; main()")
WORKERS = {"cpu-1": "cpu", "cpu-2": "cpu", "gpu-1": "gpu", "gpu-2": "gpu"}
STOP_ORDER = (tuple(WORKERS), ("api", "dispatch", "rescue"), ("broker",), ("postgres",))
SETTINGS = {
    "FEWBITS_METHOD_MODULES": MODULE,
    "FEWBITS_LEASE_SECONDS": str(LEASE_SECONDS),
    "FEWBITS_RESCUE_SECONDS": "0.2",
    "FEWBITS_POLL_SECONDS": "0.5",
    "FEWBITS_RETRY_BACKOFF_SECONDS": "0.1",
    "FEWBITS_SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS),
    # What is killed again and again is to succeed all the same.
    "FEWBITS_ATTEMPTS_LIMIT": "100",
    "FEWBITS_ATTEMPTS_MAX": "100",
    "FEWBITS_DEATHS_MAX": str(DEATHS_MAX),
    "FEWBITS_SCRATCH_FREE_BYTES_MIN": "0",
    "FEWBITS_GARBAGE_GRACE_SECONDS": "5",
    "FEWBITS_CHILD_THREADS": "1",
}


@dataclass(frozen=True)
class RunningChild:
    """A child of a worker, its folder, and the lease that this is named after."""

    worker: str
    pid: int
    folder: Path
    execution_id: str
    token: int


class Stack:
    """The processes in one folder.

    Args:
        folder: where everything is kept; it is there and may be passed through by Postgres's own user.
        program: what is run in the place of ``fewbitsd``.
        say: tells a person what happens.
    """

    def __init__(self, folder: Path, program: Sequence[str], say: Callable[[str], None]) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.scratch = folder / "scratch"
        self.models = folder / "models"
        self.held: set[str] = set()  # workers that a fault has in its hands
        self._killed: set[int] = set()
        self._program = tuple(program)
        self._supervisor = Supervisor(say)
        self._port = free_port()
        self._children: list[RunningChild] | None = None
        self.postgres = Postgres(folder / "postgres", "a-password", log=folder / "postgres.log")
        self.broker = Broker(folder / "broker", "a-password", log=folder / "broker.log")
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self, prepare: Callable[[], None]) -> None:
        """Start everything and return when it is ready; ``prepare`` is called once the tables are there."""
        self.postgres.prepare()
        self.broker.prepare()
        database = self._supervisor.add("postgres", self.postgres.start)
        queue = self._supervisor.add("broker", self.broker.start)
        self.postgres.wait_until_ready(database)
        self.broker.wait_until_ready(queue)
        upgrade(self.postgres.url)
        prepare()
        for name in ("api", "dispatch", "rescue"):
            self._supervisor.add(name, partial(start_child, self._command(name, name)))
        for name, pool in WORKERS.items():
            arguments = ("worker", "--pool", pool, "--slots", str(SLOTS))
            self._supervisor.add(name, partial(start_child, self._command(name, *arguments)))
        if not wait_for(self._has_started, seconds=READY_SECONDS):
            raise StartFailed(f"The stack was not ready within {READY_SECONDS:.0f} s.")

    def tend(self) -> None:
        """Start again what has ended."""
        self._children = None
        self._supervisor.run_once()

    def is_up(self) -> bool:
        """Start again what has ended, and return whether all runs and the API says that it is ready."""
        self.tend()
        if any(self.process(name) is None for name in self._supervisor.services):
            return False
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def process(self, name: str) -> Child | None:
        """Return a process of the stack that runs and that no fault has hit or has in its hands, or None."""
        service = self._supervisor.services[name]
        runs = not service.waiting and service.child.pid not in self._killed and service.child.status is None
        return service.child if runs and name not in self.held else None

    def kill(self, name: str, pid: int) -> None:
        """Kill a process, of the stack or below one of its processes, which starts again soon."""
        self.expect_end(name)
        self._killed.add(pid)
        self.signal(pid, signal.SIGKILL)

    def expect_end(self, name: str) -> None:
        """Have a process start again soon when it ends: it is our doing, and no reason to wait longer each time."""
        self._supervisor.services[name].failures = 0

    def operate(self, *arguments: str) -> bool:
        """Run a command of ``fewbitsd`` as an operator does; return whether it was done: Postgres may be away.

        Raises:
            RuntimeError: it failed for another reason.
        """
        command = subprocess.run(
            (*self._program, *arguments),
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if command.returncode != 0 and POSTGRES_IS_AWAY not in command.stderr:
            raise RuntimeError(f"fewbitsd {' '.join(arguments)}: {command.stderr}")
        return command.returncode == 0

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def below(self, pid: int) -> list[int]:
        """Return the processes that a process has started."""
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.NoSuchProcess:
            return []

    def children(self) -> list[RunningChild]:
        """Return the children that the workers have now, but for those of workers that a fault has in its hands."""
        if self._children is None:
            self._children = [child for name in WORKERS for child in self._children_of(name)]
        return [child for child in self._children if child.worker not in self.held]

    def at_work_on(self, execution_id: str | None) -> Iterator[tuple[RunningChild, Child]]:
        """Yield the children that run an execution now, each with its worker."""
        for child in self.children():
            worker = self.process(child.worker)
            if child.execution_id == execution_id and worker is not None:
                yield child, worker

    def offspring(self) -> list[psutil.Process]:
        """Return every process that has its home in the scratch folder: children, guards, grandchildren."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("HOME", "").startswith(str(self.scratch)):
                    found.append(process)
        return [process for process in found if _is_alive(process)]

    def stop(self) -> None:
        """Stop everything in order, also what a fault has made stand still."""
        for name in self.held:
            self.signal(self._supervisor.services[name].child.pid, signal.SIGCONT)
        self._supervisor.stop(STOP_ORDER, hurried=lambda: False, pause=time.sleep)

    def _has_started(self) -> bool:
        for service in self._supervisor.services.values():
            if service.failures >= FAILURES_BEFORE_READY_MAX:
                raise failure(service.child.command, "keeps ending")
        return self.is_up()

    def _children_of(self, name: str) -> Iterator[RunningChild]:
        worker = self.process(name)
        if worker is None:
            return
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(worker.pid).children():
                child = _running_child(name, process)
                if child is not None:
                    yield child

    def _command(self, name: str, *arguments: str) -> Command:
        return Command(
            name=name,
            argv=(*self._program, *arguments),
            environment=self._environment(),
            folder=self.folder,
            log=self.folder / f"{name}.log",
            record=self.folder / f"{name}.pid",
            orphan_signal=signal.SIGKILL,
        )

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **SETTINGS,
            "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "client"))),
            "FEWBITS_DATABASE_URL": self.postgres.url,
            "FEWBITS_BROKER_URL": self.broker.url,
            "FEWBITS_STORE_URL": self.store.as_uri(),
            "FEWBITS_SCRATCH_ROOT": str(self.scratch),
            "FEWBITS_SOURCE_ROOTS": str(self.models),
            "FEWBITS_API_PORT": str(self._port),
        }


def _running_child(worker: str, process: psutil.Process) -> RunningChild | None:
    """Return the child that a process is, by its arguments; None for what is none or is being ended."""
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        if "workers.child" in words and _is_alive(process):
            folder = Path(words[-1]).parent
            execution_id, _, token = folder.name.rpartition("-")
            return RunningChild(worker, process.pid, folder, execution_id, int(token))
    return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False
