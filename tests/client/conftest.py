from collections.abc import Callable, Iterator

import pytest

from fewbits_client import Client
from fewbits_client.cli import main
from tests.client.fake_api import KEY, FakeApi


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.close()


@pytest.fixture
def client(api: FakeApi) -> Iterator[Client]:
    with Client(api.url, KEY, timeout_seconds=10, retry_seconds=0, patience_seconds=10, poll_seconds=0) as client:
        yield client


@pytest.fixture
def fewbits(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command against the fake API and returns its exit status."""
    monkeypatch.setenv("FEWBITS_URL", api.url)
    monkeypatch.setenv("FEWBITS_API_KEY", KEY)

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        code = ended.value.code
        return code if isinstance(code, int) else 0

    return run
