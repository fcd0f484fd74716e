"""The whole stack on one machine: `fewbitsd up`.

Starts real parts and the very commands that a cluster runs, configures them through the environment alone, and keeps
them running until it is told to stop.
"""

import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from signal import SIGKILL

import click

from core.errors import StartFailed
from server import processes
from server.data_folder import DataFolder, opened
from server.embedded.broker import Broker
from server.embedded.child import Command, end_leftover, failure, run_to_end, start_child, wait_for
from server.embedded.ports import free_port, is_free
from server.embedded.postgres import Postgres
from server.signals import StopRequested, StopSignals
from server.supervision import STOP_SECONDS, Supervisor
from workers.devices import CPU, devices

PORT = 8080
MIGRATE_SECONDS = 300.0
READY_SECONDS = 120.0
TEND_SECONDS = 0.5
FAILURES_BEFORE_READY_MAX = 3


@dataclass(frozen=True)
class Options:
    """What the person who starts it may choose.

    Args:
        data: the data folder.
        port: the API's port; 0 for any free one, None for 8080 or else any free one.
        sources: folders under which models may lie; none for the environment's, or else anything this user can read.
    """

    data: Path
    port: int | None = None
    sources: tuple[Path, ...] = ()


def _ensure_key(database_url: str, known: str) -> str:
    from server.first_use import ensure_key  # late: it loads SQLAlchemy while the other processes start

    return ensure_key(database_url, known)


def _is_ready(host: str, port: int, database_url: str, worker_pids: Collection[int]) -> bool:
    from server.first_use import api_is_ready, workers_are_registered

    return api_is_ready(host, port) and workers_are_registered(database_url, worker_pids)


@dataclass(frozen=True)
class Programs:
    """What the stack runs and asks. Tests of the stack alone put others in their place."""

    fewbitsd: Path = field(default_factory=processes.installed_program)
    ensure_key: Callable[[str, str], str] = _ensure_key
    is_ready: Callable[[str, int, str, Collection[int]], bool] = _is_ready


@dataclass(frozen=True)
class RunningProcess:
    """A process of the stack, by the pid it had when the stack was ready."""

    name: str
    pid: int


@dataclass(frozen=True)
class Running:
    """What a person or a program needs to know of a stack that is ready.

    ``database_url`` is empty where the environment has named a database: who set it knows it.
    """

    url: str
    api_key: str
    database_url: str
    data_dir: str
    processes: tuple[RunningProcess, ...]


def run_up(
    options: Options,
    environment: Mapping[str, str],
    announce: Callable[[Running], None],
    programs: Programs | None = None,
) -> None:
    """Run the stack until a signal asks for its end.

    Args:
        options: what was chosen.
        environment: ours; the processes get it with what they need to find each other.
        announce: called once, when everything is ready.
        programs: what is run; the real ones if not given.

    Raises:
        StartFailed: something could not be started; nothing is left running.
    """
    with StopSignals() as signals, opened(options.data) as folder:
        stack = Stack(options, environment, folder, signals, programs or Programs())
        try:
            announce(stack.start())
            stack.keep_running()
        except StopRequested:
            say("stopping")
        finally:
            stack.stop()
    say("stopped")


class Stack:
    """The processes of one data folder."""

    def __init__(
        self,
        options: Options,
        environment: Mapping[str, str],
        folder: DataFolder,
        signals: StopSignals,
        programs: Programs,
    ) -> None:
        self._folder = folder
        self._signals = signals
        self._programs = programs
        self._supervisor = Supervisor(say)
        self._own_database_url = ""
        self._secrets = folder.load_secrets()
        self._host = environment.get("FEWBITS_API_HOST", "127.0.0.1")
        self._port = _choose_port(self._host, options.port)
        self._environment = dict(environment)
        self._environment |= {"FEWBITS_API_HOST": self._host, "FEWBITS_API_PORT": str(self._port)}
        self._environment["FEWBITS_HOST_NAME"] = socket.gethostname()  # by which the workers are known again
        self._environment.setdefault("FEWBITS_STORE_URL", folder.store.as_uri())
        self._environment.setdefault("FEWBITS_SCRATCH_ROOT", str(folder.scratch))
        self._environment.setdefault("FEWBITS_CACHE_ROOT", str(folder.cache))
        self._environment.setdefault("FEWBITS_SOURCE_ROOTS", "/")
        self._environment.setdefault("FEWBITS_PUBLISH_ROOTS", str(folder.published))
        self._environment.setdefault("FEWBITS_SHUTDOWN_SECONDS", str(STOP_SECONDS))
        if options.sources:
            self._environment["FEWBITS_SOURCE_ROOTS"] = ":".join(str(path.resolve()) for path in options.sources)

    def start(self) -> Running:
        """Start everything, each part when what it needs is there, and return when it is ready.

        Raises:
            StartFailed: a part does not start.
            StopRequested: a signal came first.
        """
        if devices("gpu")[0].name == CPU:
            say("this machine has no NVIDIA GPU: the GPU worker runs on the CPU")
        for name in processes.COMMANDS:
            end_leftover(self._folder.record(name), Command.stop_signal)
        self._start_stores()
        say("bringing the database to the newest schema")
        migrate = start_child(self._command("migrate", processes.MIGRATE))
        run_to_end(migrate, seconds=MIGRATE_SECONDS, pause=self._signals.pause)
        say(f"starting {', '.join(processes.COMMANDS)}")
        for name, argv in processes.COMMANDS.items():
            command = self._command(name, argv)
            self._supervisor.add(name, partial(start_child, command))
        key = self._programs.ensure_key(self._environment["FEWBITS_DATABASE_URL"], self._secrets.api_key)
        if key != self._secrets.api_key:
            self._folder.save_secrets(replace(self._secrets, api_key=key))
        self._wait_until_ready()
        running = tuple(RunningProcess(name, service.child.pid) for name, service in self._supervisor.services.items())
        url = f"http://{self._reachable_host}:{self._port}"
        return Running(url, key, self._own_database_url, str(self._folder.path), running)

    def keep_running(self) -> None:
        """Start again what ends.

        Raises:
            StopRequested: a signal came.
        """
        while True:
            self._supervisor.run_once()
            self._signals.pause(TEND_SECONDS)

    def stop(self) -> None:
        """Stop what runs, in order; a second signal kills what still runs."""
        first = self._signals.count
        self._supervisor.stop(
            processes.STOP_ORDER,
            hurried=lambda: self._signals.count > max(first, 1),
            pause=self._signals.rest,
        )

    def _start_stores(self) -> None:
        """Start Postgres and the broker, unless the environment names others."""
        waits: list[Callable[[], None]] = []
        if not self._environment.get("FEWBITS_DATABASE_URL"):
            log = self._folder.log("postgres")
            postgres = Postgres(self._folder.postgres, self._secrets.postgres_password, log=log)
            say(f"starting postgres on port {postgres.port}")
            postgres.prepare(self._signals.pause)
            database = self._supervisor.add("postgres", postgres.start)
            waits.append(lambda: postgres.wait_until_ready(database, self._signals.pause))
            self._environment["FEWBITS_DATABASE_URL"] = self._own_database_url = postgres.url
        if not self._environment.get("FEWBITS_BROKER_URL"):
            broker = Broker(self._folder.broker, self._secrets.broker_password, log=self._folder.log("broker"))
            say(f"starting the broker on port {broker.port}")
            broker.prepare()
            queue = self._supervisor.add("broker", broker.start)
            waits.append(lambda: broker.wait_until_ready(queue, self._signals.pause))
            self._environment["FEWBITS_BROKER_URL"] = broker.url
        for wait in waits:
            wait()

    def _wait_until_ready(self) -> None:
        """Return when the API and the workers say that they are ready, having started again what ended meanwhile."""

        def ready() -> bool:
            self._supervisor.run_once()
            for service in self._supervisor.services.values():
                if service.failures >= FAILURES_BEFORE_READY_MAX:
                    raise failure(service.child.command, "keeps ending")
            pids = [s.child.pid for name, s in self._supervisor.services.items() if name.startswith("worker-")]
            return self._programs.is_ready(
                self._reachable_host, self._port, self._environment["FEWBITS_DATABASE_URL"], pids
            )

        if not wait_for(ready, seconds=READY_SECONDS, pause=self._signals.pause):
            raise StartFailed(
                f"The stack was not ready within {READY_SECONDS:.0f} s. Its logs: {self._folder.log('api').parent}"
            )

    @property
    def _reachable_host(self) -> str:
        return "127.0.0.1" if self._host == "0.0.0.0" else self._host  # noqa: S104 - compared with, not listened on

    def _command(self, name: str, argv: tuple[str, ...]) -> Command:
        return Command(
            name=name,
            argv=(str(self._programs.fewbitsd), *argv[1:]),
            environment=self._environment,
            folder=self._folder.path,
            log=self._folder.log(name),
            record=self._folder.record(name),
            orphan_signal=SIGKILL,  # what a killed process was doing is done again under another lease
        )


def say(text: str) -> None:
    """Tell the person who started us something."""
    try:
        click.echo(f"fewbitsd: {text}", err=True)
    except OSError:  # the terminal is gone; what we do does not depend on it
        return


def _choose_port(host: str, wanted: int | None) -> int:
    if wanted is None and not is_free(host, PORT):
        port = free_port(host)
        say(f"port {PORT} is taken, so the API gets port {port}")
        return port
    if wanted and not is_free(host, wanted):
        raise StartFailed(
            f"Port {wanted} is taken on {host}. Choose another with --port, or --port 0 for any free one."
        )
    return PORT if wanted is None else wanted or free_port(host)
