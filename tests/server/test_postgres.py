import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from core.errors import StartFailed
from server.embedded.child import stop_children
from server.embedded.ports import is_free
from server.embedded.postgres import Postgres, running_postgres
from tests.server.conftest import PASSWORD
from tests.waiting import is_gone, wait_until

RUN_AND_WAIT = """
import sys, time
from pathlib import Path
from server.embedded.postgres import running_postgres
with running_postgres(Path(sys.argv[1]), "a-password", durable=False) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN_AND_WAIT, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def postmaster(folder: Path) -> int:
    return int((folder / "data" / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def store(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")


def stored(url: str) -> object:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT value FROM kept").fetchone()


def test_role_is_no_superuser_and_may_create_databases(cluster: Path) -> None:
    with running_postgres(cluster, PASSWORD, durable=False) as url, psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        assert connection.execute(query).fetchone() == (False, True)
        connection.execute("CREATE DATABASE another")


def test_nobody_else_can_log_in_and_no_password_is_shown(cluster: Path) -> None:
    with running_postgres(cluster, PASSWORD, durable=False) as url:
        port = url.rpartition(":")[2].partition("/")[0]
        for user, password in (("fewbits", "wrong"), ("postgres", PASSWORD), ("postgres", "")):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(host="127.0.0.1", port=port, user=user, password=password, dbname="fewbits")
        server = psutil.Process(postmaster(cluster))
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # of those whose login was refused, some are just ending
                assert PASSWORD not in " ".join(process.cmdline())
    assert PASSWORD not in (cluster / "postgres.log").read_text()


def test_stop_leaves_no_process_and_no_port(cluster: Path) -> None:
    server = Postgres(cluster, PASSWORD, durable=False)
    server.prepare()
    child = server.start()
    server.wait_until_ready(child)
    family = [child.pid, *(process.pid for process in psutil.Process(child.pid).children(recursive=True))]
    stop_children([child], seconds=10, hurried=lambda: False, pause=time.sleep)
    assert child.status == 0
    assert all(is_gone(pid) for pid in family)
    assert is_free("127.0.0.1", server.port)


def test_killed_parent_takes_it_along_and_data_are_kept(cluster: Path) -> None:
    process = start(cluster)
    assert process.stdout
    store(process.stdout.readline().strip())
    pid = postmaster(cluster)
    kill(process)
    wait_until(lambda: is_gone(pid))
    with running_postgres(cluster, PASSWORD, durable=False) as url:
        assert stored(url) == (42,)


def test_kill_of_everything_keeps_the_data(cluster: Path) -> None:
    process = start(cluster)
    assert process.stdout
    store(process.stdout.readline().strip())
    os.kill(postmaster(cluster), signal.SIGKILL)
    kill(process)
    with running_postgres(cluster, PASSWORD, durable=False) as url:
        assert stored(url) == (42,)


def test_leftover_that_still_runs_is_ended(cluster: Path) -> None:
    server = Postgres(cluster, PASSWORD, durable=False)
    server.prepare()
    orphan = server.start()
    server.wait_until_ready(orphan)
    with running_postgres(cluster, PASSWORD, durable=False):
        assert orphan.status is not None
    orphan.end()


def test_leftover_without_a_record_is_ended(cluster: Path) -> None:
    server = Postgres(cluster, PASSWORD, durable=False)
    server.prepare()
    orphan = server.start()
    server.wait_until_ready(orphan)
    orphan.command.record.unlink()
    with running_postgres(cluster, PASSWORD, durable=False):
        assert orphan.status is not None
    orphan.end()


def test_stale_lock_with_the_pid_of_another_program(cluster: Path) -> None:
    with running_postgres(cluster, PASSWORD, durable=False):
        lock = (cluster / "data" / "cluster" / "postmaster.pid").read_text().splitlines()
    with subprocess.Popen(["sleep", "60"]) as other:
        (cluster / "data" / "cluster" / "postmaster.pid").write_text("\n".join([str(other.pid), *lock[1:]]))
        with running_postgres(cluster, PASSWORD, durable=False):
            assert other.poll() is None
        other.kill()


def test_record_with_the_pid_of_another_program(cluster: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        (cluster / "postgres.pid").write_text(f'{{"pid": {other.pid}, "started": 1.0}}')
        with running_postgres(cluster, PASSWORD, durable=False):
            assert other.poll() is None
        other.kill()


def test_kill_while_the_cluster_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    process = start(folder)
    wait_until((folder / "data" / "cluster.new" / "PG_VERSION").exists)
    kill(process)
    assert not (folder / "data" / "cluster").exists()
    with running_postgres(folder, PASSWORD, durable=False) as url:
        store(url)


def test_other_major_version_is_refused(cluster: Path) -> None:
    (cluster / "data" / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartFailed, match="made by Postgres 17"), running_postgres(cluster, PASSWORD):
        pass


def test_other_password_is_refused(cluster: Path) -> None:
    with pytest.raises(StartFailed, match="another password"), running_postgres(cluster, "other", durable=False):
        pass


def test_unusable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartFailed, match="cannot use"), running_postgres(tmp_path / "file"):
        pass


def test_failure_shows_the_end_of_the_log(cluster: Path) -> None:
    with (cluster / "data" / "cluster" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(StartFailed, match="no_such_setting"), running_postgres(cluster, PASSWORD):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_root_runs_it_as_nobody_and_loosens_nothing(cluster: Path) -> None:
    before = cluster.parent.stat().st_mode
    with running_postgres(cluster, PASSWORD, durable=False):
        process = psutil.Process(postmaster(cluster))
        assert process.uids().real == process.uids().effective == (cluster / "data").stat().st_uid != 0
        assert process.username() == "nobody"
    assert cluster.parent.stat().st_mode == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_without_setpriv_root_is_told_what_to_do(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)
    with pytest.raises(StartFailed, match="util-linux"), running_postgres(cluster, PASSWORD):
        pass
