import os
import signal
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.errors import StartFailed
from server.embedded.broker import Broker, running_broker
from server.embedded.child import stop_children
from server.embedded.ports import is_free
from tests.waiting import arguments, is_gone


def test_password_is_required(tmp_path: Path) -> None:
    with running_broker(tmp_path / "broker", "secret") as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        for password in (None, "wrong"):
            client = redis.Redis(port=port, password=password, retry=Retry(NoBackoff(), 0))
            with client, pytest.raises(redis.AuthenticationError):
                client.ping()


def test_password_is_kept_from_other_users(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", "secret")
    broker.prepare()
    assert (tmp_path / "broker" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    child = broker.start()
    broker.wait_until_ready(child)
    assert "secret" not in " ".join(arguments(child.pid))
    stop_children([child], seconds=10, hurried=lambda: False, pause=time.sleep)
    assert is_gone(child.pid)
    assert is_free("127.0.0.1", broker.port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_data_are_kept(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / 'a "folder" with spaces'
    broker = Broker(folder, "one")
    broker.prepare()
    child = broker.start()
    broker.wait_until_ready(child)
    with redis.Redis.from_url(broker.url) as client:
        client.rpush("queue", "a", "b")
    os.kill(child.pid, number)
    child._process.wait(10)
    with running_broker(folder, "another") as url, redis.Redis.from_url(url) as client:
        assert client.lrange("queue", 0, -1) == [b"a", b"b"]


def test_leftover_that_still_runs_is_ended(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker", "secret")
    broker.prepare()
    orphan = broker.start()
    broker.wait_until_ready(orphan)
    with running_broker(tmp_path / "broker", "secret"):
        assert orphan.status is not None


def test_unusable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartFailed, match="cannot use"), running_broker(tmp_path / "file"):
        pass


def test_failure_shows_the_end_of_the_log(tmp_path: Path) -> None:
    with running_broker(tmp_path / "one") as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        broker = Broker(tmp_path / "two", "secret", port=port)
        broker.prepare()
        child = broker.start()
        with pytest.raises(StartFailed, match="in use"):
            broker.wait_until_ready(child)
        child.end()
