"""The S3 server of dev, started here with its arguments, takes the key that dev's Secrets give to the pods."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import StoreFailed
from core.settings import Settings
from server.embedded.ports import free_port, is_free
from store.opening import open_store
from tests.k8s.rendered import DEV, Pod, environment, our_pods, pods
from tests.waiting import wait_until

RCLONE = Path(sys.executable).parent / "rclone"


def here(arguments: list[str], folder: Path, port: int) -> list[str]:
    """Return what starts a container of the server, on this machine."""
    places = {"/data": str(folder), "/data/fewbits": str(folder / "fewbits"), ":9000": f"127.0.0.1:{port}"}
    places["/tmp"] = str(folder / "tmp")
    return [str(RCLONE), *(places.get(argument, argument) for argument in arguments)]


def pod_named(name: str, among: list[Pod]) -> Pod:
    (pod,) = [pod for pod in among if pod.name == name]
    return pod


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    pod = pod_named("store", pods(DEV))
    port = free_port()
    (make_bucket,) = pod.spec["initContainers"]
    subprocess.run(here(make_bucket["args"], tmp_path, port), check=True)
    command = here(pod.main["args"], tmp_path, port)
    with subprocess.Popen(command, env=os.environ | environment(DEV, pod.main)) as server:
        try:
            wait_until(lambda: not is_free("127.0.0.1", port))
            yield port
        finally:
            server.kill()


def test_the_store_takes_the_key_of_the_pods_and_no_other(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = pod_named("worker-cpu", our_pods(DEV))
    for name, value in environment(DEV, worker.main).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FEWBITS_S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    open_store(Settings()).check()
    monkeypatch.setenv("FEWBITS_S3_SECRET_ACCESS_KEY", "another")
    with pytest.raises(StoreFailed):
        open_store(Settings()).check()
