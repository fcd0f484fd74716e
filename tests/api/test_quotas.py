"""A team may have so many queued jobs and datasets; what is beyond is refused, and says where the limit can be seen."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Thread

import pytest
from apiflask import APIFlask
from werkzeug.test import TestResponse

from core.dataset_kinds import DatasetKind
from core.settings import Settings
from db import datasets, keys, quotas
from db.datasets import NewDataset
from db.session import Database
from db.states import Quota
from tests.api.conftest import SOURCE, Caller, pointers, problem_of
from tests.api.work import Workers

BODY = {"source": SOURCE, "recipe": "gguf"}
SetQuota = Callable[[Quota, int | None], None]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"team_queued_jobs_max": 3, "team_running_max": 8, "team_datasets_max": 2})


@pytest.fixture
def set_quota(caller: Caller, database: Database) -> SetQuota:
    """Gives the caller's team a limit of its own."""
    team = database.run(partial(keys.authenticate, key=caller.key))
    return lambda name, maximum: database.run(partial(quotas.set_quota, team_id=team, name=name, maximum=maximum))


def shares(caller: Caller) -> dict[str, tuple[int, int | None]]:
    page = caller.get("/v1/quotas").get_json()
    assert (page["object"], page["has_more"]) == ("list", False)
    assert [list(quota) for quota in page["data"]] == [["object", "name", "used", "maximum"]] * 4
    return {quota["name"]: (quota["used"], quota["maximum"]) for quota in page["data"]}


def upload(caller: Caller, text: str) -> TestResponse:
    headers = {**caller.headers, "Content-Type": "text/plain"}
    return caller.client.post("/v1/datasets", data=text, headers=headers)


def refused(response: TestResponse) -> str:
    assert response.status_code == 429
    problem = problem_of(response)
    assert problem["code"] == "quota_exceeded"
    assert "GET /v1/quotas" in problem["detail"]
    detail: str = problem["detail"]
    return detail


def test_limits_are_shown_with_what_is_used(
    caller: Caller, stranger: Caller, database: Database, set_quota: SetQuota
) -> None:
    defaults: dict[str, tuple[int, int | None]]
    defaults = {"queued_jobs": (0, 3), "running_cpu": (0, 8), "running_gpu": (0, 8), "datasets": (0, 2)}
    assert shares(caller) == defaults
    assert upload(caller, "one").status_code == 201
    set_quota(Quota.RUNNING_GPU, 1)
    caller.submit()
    caller.submit()
    Workers(database).start("fetch")
    assert shares(caller) == {"queued_jobs": (1, 3), "running_cpu": (1, 8), "running_gpu": (0, 1), "datasets": (1, 2)}
    assert shares(stranger) == defaults
    assert pointers(caller.get("/v1/quotas?team=theirs")) == ["/team"]


def test_a_job_too_many_is_refused_until_one_has_started(caller: Caller, stranger: Caller, database: Database) -> None:
    for _ in range(3):
        caller.submit()
    assert "has 3 queued jobs, and may have 3" in refused(caller.post("/v1/jobs", BODY))
    stranger.submit()
    assert len(caller.get("/v1/jobs").get_json()["data"]) == 3
    Workers(database).start("fetch")
    caller.submit()
    refused(caller.post("/v1/jobs", BODY))


def test_a_retry_counts_as_well(caller: Caller) -> None:
    over = caller.submit()["id"]
    caller.post(f"/v1/jobs/{over}/cancel")
    for _ in range(3):
        caller.submit()
    refused(caller.post(f"/v1/jobs/{over}/retry"))


def test_a_limit_of_its_own_goes_before_the_default(caller: Caller, set_quota: SetQuota) -> None:
    set_quota(Quota.QUEUED_JOBS, 0)
    assert "may have 0" in refused(caller.post("/v1/jobs", BODY))
    set_quota(Quota.QUEUED_JOBS, 4)
    for _ in range(4):
        caller.submit()
    refused(caller.post("/v1/jobs", BODY))
    set_quota(Quota.QUEUED_JOBS, None)
    assert "may have 3" in refused(caller.post("/v1/jobs", BODY))


def test_a_replay_is_answered_where_nothing_new_is_taken(caller: Caller, set_quota: SetQuota) -> None:
    def send(key: str) -> TestResponse:
        headers = {**caller.headers, "Idempotency-Key": key}
        return caller.client.post("/v1/jobs", json=BODY, headers=headers)

    first = send("one")
    set_quota(Quota.QUEUED_JOBS, 1)
    again = send("one")
    assert (again.status_code, again.data) == (201, first.data)
    refused(send("another"))
    set_quota(Quota.QUEUED_JOBS, 2)
    assert send("another").status_code == 201  # what was refused has used up no key


def test_a_request_that_is_wrong_is_told_so_first(caller: Caller, set_quota: SetQuota) -> None:
    set_quota(Quota.QUEUED_JOBS, 0)
    assert caller.post("/v1/jobs", {**BODY, "recipe": "nothing"}).status_code == 422


def test_many_at_once_do_not_pass_the_limit(app: APIFlask, caller: Caller, set_quota: SetQuota) -> None:
    set_quota(Quota.QUEUED_JOBS, 5)

    def submit(_: int) -> int:
        return Caller(app.test_client(), caller.key).post("/v1/jobs", BODY).status_code

    with ThreadPoolExecutor(20) as threads:
        statuses = sorted(threads.map(submit, range(20)))
    assert statuses == [201] * 5 + [429] * 15
    assert shares(caller)["queued_jobs"] == (5, 5)


def test_a_dataset_too_many_is_refused_until_one_is_deleted(
    caller: Caller, stranger: Caller, set_quota: SetQuota
) -> None:
    first = upload(caller, "one").get_json()
    assert upload(caller, "two").status_code == 201
    told = refused(upload(caller, "three"))
    assert "has 2 datasets" in told
    assert "may have 2. Delete some" in told
    assert "fewbits datasets delete DATASET" in told
    assert upload(stranger, "three").status_code == 201
    set_quota(Quota.DATASETS, 1)
    assert upload(caller, "one").get_json() == first  # no further one
    refused(upload(caller, "three"))
    set_quota(Quota.DATASETS, None)
    caller.client.delete(f"/v1/datasets/{first['id']}", headers=caller.headers)
    assert upload(caller, "three").status_code == 201
    assert len(caller.get("/v1/datasets").get_json()["data"]) == 2


def test_what_is_no_text_is_told_so_before_the_quota(caller: Caller, set_quota: SetQuota) -> None:
    set_quota(Quota.DATASETS, 0)
    assert upload(caller, " ").status_code == 422
    refused(upload(caller, "one"))


def test_an_upload_waits_for_another_that_takes_the_last_place(
    caller: Caller, database: Database, set_quota: SetQuota
) -> None:
    team = database.run(partial(keys.authenticate, key=caller.key))
    set_quota(Quota.DATASETS, 1)
    new = NewDataset("", DatasetKind.TEXT, "0" * 64, 1, 1)
    answers: list[TestResponse] = []
    second = Thread(target=lambda: answers.append(upload(caller, "two")))
    with database.transaction() as session:
        quotas.require_place_for_dataset(session, team, new, {})
        dataset_id = datasets.announce(session, team, new)
        second.start()
        second.join(0.5)
        assert second.is_alive()
    second.join()
    assert "has 1 datasets, uploads that are under way included" in refused(answers[0])
    database.run(partial(datasets.keep, dataset_id=dataset_id))
    assert shares(caller)["datasets"] == (1, 1)


def test_many_uploads_at_once_do_not_pass_the_limit(app: APIFlask, caller: Caller, set_quota: SetQuota) -> None:
    set_quota(Quota.DATASETS, 4)

    def send(number: int) -> int:
        return upload(Caller(app.test_client(), caller.key), f"text {number}").status_code

    with ThreadPoolExecutor(12) as threads:
        statuses = sorted(threads.map(send, range(12)))
    assert statuses == [201] * 4 + [429] * 8
    assert shares(caller)["datasets"] == (4, 4)
