"""The API under its production server, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from server.embedded.ports import free_port
from tests.conftest import REPOSITORY
from tests.waiting import wait_until


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serving(database_url: str, folder: Path, **further: str) -> Iterator[Server]:
    """Serve the API; its store and its log are in ``folder``, and sources may lie under ``/models``."""
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "FEWBITS_DATABASE_URL": database_url,
        "FEWBITS_STORE_URL": f"file://{folder}/store",
        "FEWBITS_SOURCE_ROOTS": "/models",
        "FEWBITS_API_PORT": str(port),
        **further,
    }
    program = [sys.executable, "-c", "from server.api import serve; serve()"]
    with (folder / "log").open("wb") as log, subprocess.Popen(program, env=environment, stderr=log) as process:
        server = Server(process, port)
        try:
            wait_until(server.is_ready)
            yield server
        finally:
            process.kill()
