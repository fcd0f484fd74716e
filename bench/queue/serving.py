"""The API under its production server, as it is deployed, for the length of a block."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence

from bench.queue.contenders.fewbits import fewbitsd, settings
from bench.queue.place import Place
from server.embedded.ports import free_port

START_SECONDS = 30.0


@contextlib.contextmanager
def serving(
    at: Place, database_url: str, beside: Mapping[str, Sequence[str]] | None = None, **further: str
) -> Iterator[int]:
    """Run the API, and other processes beside it; yields its port.

    Args:
        at: the servers that it uses.
        database_url: where its rows are.
        beside: further processes, by name.
        further: settings.
    """
    port = free_port()
    environment = {**settings(at, database_url), "FEWBITS_API_PORT": str(port), **further}
    with at.running({"api": fewbitsd("api"), **(beside or {})}, environment):
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the API was not ready within {START_SECONDS:g} s; see {at.folder / 'api.log'}")
            time.sleep(0.05)
        yield port


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(json.load(answer))
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
