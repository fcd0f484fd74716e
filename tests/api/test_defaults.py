"""What the operator has set holds for jobs that do not say otherwise, and is written down with them."""

import pytest

from core.settings import Settings
from tests.api.conftest import Caller


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_runtime_seconds": 100, "max_pending_seconds": 200})


def limits(job: dict[str, int]) -> tuple[int, int]:
    return job["max_runtime_seconds"], job["max_pending_seconds"]


def test_a_job_that_names_no_limit_gets_the_operators(caller: Caller) -> None:
    assert limits(caller.submit()) == (100, 200)
    assert limits(caller.submit(max_runtime_seconds=None)) == (100, 200)
    assert limits(caller.submit(max_runtime_seconds=5)) == (5, 200)
    assert limits(caller.submit(max_runtime_seconds=5, max_pending_seconds=10**6)) == (5, 10**6)


def test_a_retry_keeps_what_was_stored(caller: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    job = caller.submit(max_pending_seconds=7)
    caller.post(f"/v1/jobs/{job['id']}/cancel")
    monkeypatch.setitem(settings.__dict__, "max_runtime_seconds", 300)
    assert limits(caller.post(f"/v1/jobs/{job['id']}/retry").get_json()) == (100, 7)
    assert limits(caller.submit()) == (300, 200)
