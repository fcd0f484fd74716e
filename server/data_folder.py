"""The folder that holds one machine's data: made private, used by one `fewbitsd up` at a time, its secrets kept."""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from core.errors import StartFailed


@dataclass(frozen=True)
class Secrets:
    """What a restart must find again.

    Args:
        postgres_password: of the role that all processes use.
        broker_password: of the broker.
        api_key: the first team's key; empty before it was made.
    """

    postgres_password: str
    broker_password: str
    api_key: str = ""


@dataclass(frozen=True)
class DataFolder:
    """The places in a data folder."""

    path: Path

    @property
    def postgres(self) -> Path:
        """Postgres's folder; it makes that itself."""
        return self.path / "postgres"

    @property
    def broker(self) -> Path:
        """The broker's folder; it makes that itself."""
        return self.path / "broker"

    @property
    def store(self) -> Path:
        """Blobs and artifacts."""
        return self.path / "store"

    @property
    def scratch(self) -> Path:
        """Where workers' children write."""
        return self.path / "scratch"

    @property
    def published(self) -> Path:
        """Where results are published, unless an operator names other folders."""
        return self.path / "published"

    @property
    def cache(self) -> Path:
        """Copies of what is in a store elsewhere."""
        return self.path / "cache"

    def log(self, name: str) -> Path:
        """Return where a process's output goes."""
        return self.path / "logs" / f"{name}.log"

    def record(self, name: str) -> Path:
        """Return where a process's pid is kept."""
        return self.path / "run" / f"{name}.pid"

    def load_secrets(self) -> Secrets:
        """Return the kept secrets, or new ones where there are none.

        Raises:
            StartFailed: what is kept cannot be read.
        """
        file = self.path / "secrets.json"
        try:
            return Secrets(**json.loads(file.read_text()))
        except FileNotFoundError:
            fresh = Secrets(secrets.token_urlsafe(24), secrets.token_urlsafe(24))
            self.save_secrets(fresh)
            return fresh
        except (OSError, ValueError, TypeError) as error:
            raise StartFailed(f"{file} cannot be read: {error}. Restore it, or use another data folder.") from error

    def save_secrets(self, values: Secrets) -> None:
        """Keep secrets, readable by us alone; a kill in the middle leaves the old ones.

        Raises:
            StartFailed: they cannot be written.
        """
        fresh = self.path / "secrets.json.new"
        try:
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(values), file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path / "secrets.json")
        except OSError as error:
            raise StartFailed(f"{self.path} cannot be written: {error}") from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[DataFolder]:
    """Make a data folder if need be, and hold it alone for the length of a block.

    Raises:
        StartFailed: it cannot be used, or another process uses it.
    """
    folder = DataFolder(path.resolve())
    try:
        # Not listable, but passable for root's sake: its Postgres runs under another account. Inside, all is private.
        folder.path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartFailed(f"The data folder {path} cannot be used: {error}") from error
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock.read().strip() or "another process"
            raise StartFailed(
                f"The data folder {folder.path} is in use by a running 'fewbitsd up' (pid {holder}). Stop that first, "
                "or choose another folder with --data."
            ) from None
        try:
            lock.truncate()
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            for private in (folder.log("x").parent, folder.record("x").parent, folder.store, folder.scratch):
                private.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StartFailed(f"The data folder {path} cannot be used: {error}") from error
        yield folder
