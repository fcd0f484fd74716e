"""Where a section measures: a Postgres and a broker of its own, as `fewbitsd up` runs them, in a temporary folder."""

import contextlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from server.embedded.broker import Broker
from server.embedded.child import Child, Command, start_child, stop_children
from server.embedded.postgres import Postgres

CHECKOUT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Place:
    """Running servers, and where to keep files."""

    folder: Path
    postgres_url: str
    broker_url: str
    postgres_pid: int
    broker_pid: int

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self._execute("CREATE DATABASE {}", name)
        return f"{self.postgres_url.rpartition('/')[0]}/{name}"

    def has_database(self, name: str) -> bool:
        """Say whether a database was made."""
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name])
            return found.fetchone() is not None

    def drop_database(self, name: str) -> None:
        """Remove a database, so that nothing is cleaned up in it while others are measured."""
        self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def _execute(self, statement: str, name: str) -> None:
        with psycopg.connect(self.postgres_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    @contextlib.contextmanager
    def running(
        self, commands: Mapping[str, Sequence[str]], environment: Mapping[str, str]
    ) -> Iterator[Mapping[str, int]]:
        """Run Python programs for the length of a block.

        Args:
            commands: the interpreter's arguments, by a name for the process; the names are those of their logs.
            environment: variables beside those that we were started with.

        Yields:
            the processes' ids by name.
        """
        children: dict[str, Child] = {}
        try:
            for name, arguments in commands.items():
                children[name] = start_child(self._command(name, arguments, environment))
            yield {name: child.pid for name, child in children.items()}
            for child in children.values():
                if child.status is not None:
                    raise RuntimeError(f"{child.command.name} ended with {child.status}; see {child.command.log}")
        finally:
            stop_children(children.values(), seconds=STOP_SECONDS, hurried=lambda: False, pause=time.sleep)

    def _command(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Command:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FEWBITS_")}
        return Command(
            name=name,
            argv=(sys.executable, *arguments),
            environment={**inherited, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'client'}", **environment},
            folder=CHECKOUT,
            log=self.folder / f"{name}.log",
            record=self.folder / f"{name}.pid",
        )


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Run a durable Postgres and a broker for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="fewbits-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # Postgres's user passes through
        postgres = Postgres(folder / "postgres", secrets.token_urlsafe(24))
        broker = Broker(folder / "broker", secrets.token_urlsafe(24))
        postgres.prepare()
        broker.prepare()
        children: list[Child] = []
        try:
            children += [postgres.start(), broker.start()]
            postgres.wait_until_ready(children[0])
            broker.wait_until_ready(children[1])
            yield Place(folder, postgres.url, broker.url, children[0].pid, children[1].pid)
        finally:
            stop_children(children, seconds=STOP_SECONDS, hurried=lambda: False, pause=time.sleep)
