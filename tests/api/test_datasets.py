"""A team's own datasets: what is taken and what is refused, whose they are, and that a job needs them."""

import errno
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from sqlalchemy import text as sql
from werkzeug.test import TestResponse

from api.services import services_of
from core.dataset_kinds import DatasetKind
from core.errors import StoreFailed
from core.ids import TeamId
from core.manifest import StoredFile
from core.settings import Settings
from db import datasets
from db.session import Database
from tests.api.conftest import Caller, pointers, problem_of
from tests.api.work import CALIBRATION, Workers
from workers.collector import Collector, Keeping

PLAIN = "A dataset of our own, with an é in it.\n".encode()
CHAT = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}
JSONL = (
    "\n".join(json.dumps(line) for line in [{"text": "one\u2028two", "url": "x"}, {"text": "three"}]).encode() + b"\n\n"
)
COMPLETION = {"prompt": "2 + 2 =", "completion": " 4"}
NOTHING_IS_KEPT = Keeping(garbage_grace_seconds=0, idempotency_seconds=1e6, history_seconds=1e6)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"dataset_bytes_max": 2**21})


def upload(caller: Caller, body: bytes = PLAIN, media_type: str = "text/plain", name: str = "own.txt") -> TestResponse:
    headers = {**caller.headers, "Content-Type": media_type}
    return caller.client.post("/v1/datasets", query_string={"name": name}, data=body, headers=headers)


def uploaded(caller: Caller, body: bytes = PLAIN, media_type: str = "text/plain") -> str:
    answer = upload(caller, body, media_type)
    assert answer.status_code in (200, 201), answer.text
    dataset_id: str = answer.get_json()["id"]
    return dataset_id


def jsonl(caller: Caller, line: Mapping[str, Any]) -> str:
    """Upload a dataset of one line, and return its id."""
    return uploaded(caller, json.dumps(line).encode(), "application/jsonl")


def remove(caller: Caller, dataset_id: str) -> TestResponse:
    return caller.client.delete(f"/v1/datasets/{dataset_id}", headers=caller.headers)


def collect(app: APIFlask, database: Database) -> int:
    return Collector(database, services_of(app).store, NOTHING_IS_KEPT).run_once().blobs


def is_stored(app: APIFlask, body: bytes) -> bool:
    return services_of(app).store.has(hashlib.sha256(body).hexdigest())


def test_a_dataset_is_stored_under_its_digest_and_can_be_read_of(app: APIFlask, caller: Caller) -> None:
    answer = upload(caller, JSONL, "application/jsonl; charset=utf-8")
    assert answer.status_code == 201
    dataset = answer.get_json()
    assert answer.headers["Location"] == f"/v1/datasets/{dataset['id']}"
    assert (dataset["object"], dataset["name"], dataset["kind"], dataset["documents"]) == (
        "dataset",
        "own.txt",
        "documents",
        2,
    )
    assert (dataset["sha256"], dataset["size_bytes"]) == (hashlib.sha256(JSONL).hexdigest(), len(JSONL))
    assert is_stored(app, JSONL)
    assert caller.get(answer.headers["Location"]).get_json() == dataset
    assert caller.get("/v1/datasets").get_json() == {"object": "list", "data": [dataset], "has_more": False}


def test_the_same_bytes_are_the_same_dataset_until_it_is_deleted(caller: Caller) -> None:
    first = upload(caller)
    again = upload(caller, name="other.txt")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.get_json() == first.get_json()
    assert upload(caller, b'{"text": "x"}', "text/plain").status_code == 201
    assert upload(caller, b'{"text": "x"}', "application/x-ndjson").status_code == 201
    assert remove(caller, first.get_json()["id"]).get_json()["deleted"] is True
    assert remove(caller, first.get_json()["id"]).status_code == 404
    anew = upload(caller)
    assert anew.status_code == 201
    assert anew.get_json()["id"] != first.get_json()["id"]


def test_of_many_uploads_at_once_one_makes_the_text(app: APIFlask, caller: Caller) -> None:
    answers: list[TestResponse] = []
    callers = [Caller(app.test_client(), caller.key) for _ in range(6)]
    threads = [threading.Thread(target=lambda one=one: answers.append(upload(one))) for one in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.get_json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("body", "media_type", "said"),
    [
        (b"", "text/plain", "There is no text"),
        (b" \n\t\n", "text/plain", "There is no text"),
        (b'{"text": " "}', "application/jsonl", "There is no text"),
        (b"one\ntwo \xff", "text/plain", "Line 2 is not UTF-8"),
        (b"one\xc3", "text/plain", "Line 1 is not UTF-8"),
        (b"one\ntwo\0", "text/plain", "Line 2 has a NUL character"),
        (b'{"text": "a"}\n{"text": "b\\u0000"}', "application/jsonl", "Line 2 has a NUL character"),
        (b'{"text": "\\ud800"}', "application/jsonl", "half of a surrogate pair"),
        (b'{"text": "a"}\n\nno', "application/jsonl", "Line 3 is not JSON"),
        (b"[" * 100_000, "application/jsonl", "nested too deeply"),
        (b'"a"', "application/jsonl", "Line 1 is no object"),
        (b'{"content": "a"}', "application/jsonl", "Line 1 has not the fields of any kind"),
        (b'{"text": "a", "messages": []}', "application/jsonl", "several kinds: documents and chat"),
        (b'{"text": 1}', "application/jsonl", "The text of line 1 is no string"),
        (b'{"text": ["a"]}', "application/jsonl", "The text of line 1 is no string"),
        (b'{"messages": []}', "application/jsonl", "The messages of line 1"),
        (b'{"messages": [{"role": "user"}]}', "application/jsonl", "A message of line 1"),
    ],
)
def test_what_is_no_dataset_is_refused_with_its_line(
    caller: Caller, app: APIFlask, body: bytes, media_type: str, said: str
) -> None:
    answer = upload(caller, body, media_type)
    assert answer.status_code == 422
    assert said in problem_of(answer)["detail"]
    assert caller.get("/v1/datasets").get_json()["data"] == []
    assert not is_stored(app, body)


def test_another_kind_of_body_is_refused(caller: Caller) -> None:
    for media_type in ("application/json", "application/octet-stream", ""):
        answer = upload(caller, media_type=media_type)
        assert answer.status_code == 415
        assert "text/plain, application/jsonl" in problem_of(answer)["detail"]


def test_a_dataset_may_be_as_large_as_the_operator_allows_and_no_larger(caller: Caller) -> None:
    """That is more than the JSON of other requests."""
    assert upload(caller, b"x" * 2**21).status_code == 201
    answer = upload(caller, b"x" * (2**21 + 1))
    assert answer.status_code == 413
    assert "2097152 bytes" in problem_of(answer)["detail"]
    assert "FEWBITS_DATASET_BYTES_MAX" in problem_of(answer)["detail"]


def test_a_full_store_is_said_and_leaves_nothing(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    used = caller.get("/v1/quotas").get_json()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        answer = upload(caller)
    assert (answer.status_code, problem_of(answer)["code"]) == (503, "store_full")
    assert "Retry-After" in answer.headers
    assert "make room, then try again" in problem_of(answer)["detail"]
    assert caller.get("/v1/quotas").get_json() == used
    assert upload(caller).status_code == 201


def test_another_team_sees_nothing_of_a_text(caller: Caller, stranger: Caller) -> None:
    dataset_id = uploaded(caller)
    assert stranger.get(f"/v1/datasets/{dataset_id}").status_code == 404
    assert remove(stranger, dataset_id).status_code == 404
    assert stranger.get("/v1/datasets").get_json()["data"] == []
    assert stranger.get(f"/v1/datasets?after={dataset_id}").status_code == 422
    own = upload(stranger)
    assert own.status_code == 201
    assert own.get_json()["id"] != dataset_id
    assert remove(stranger, own.get_json()["id"]).status_code == 200
    assert caller.get(f"/v1/datasets/{dataset_id}").status_code == 200


def test_texts_come_by_the_page(caller: Caller) -> None:
    ids = [uploaded(caller, f"dataset {number}".encode()) for number in range(3)]
    page = caller.get("/v1/datasets?limit=2").get_json()
    assert ([dataset["id"] for dataset in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    rest = caller.get(f"/v1/datasets?after={ids[1]}").get_json()
    assert ([dataset["id"] for dataset in rest["data"]], rest["has_more"]) == (ids[:1], False)


def recipe(dataset: str) -> dict[str, str]:
    return {"method": "gptq", "calibration_text": dataset}


def test_a_recipe_names_a_dataset_of_its_team(caller: Caller, stranger: Caller, database: Database) -> None:
    dataset_id = uploaded(caller, JSONL, "application/jsonl")
    job = caller.submit(recipe(dataset_id))
    assert job["parameters"]["calibration_text"] == dataset_id
    with database.transaction() as session:
        params = session.scalar(sql("SELECT params FROM steps WHERE kind = 'calibrate'"))
    own = {"text_sha256": hashlib.sha256(JSONL).hexdigest(), "text_format": "jsonl", "text_bytes": len(JSONL)}
    assert own.items() <= params.items()
    body = {"source": "file:///models/tiny", "recipe": recipe(dataset_id)}
    refused = stranger.post("/v1/jobs", body)
    assert refused.status_code == 422
    assert pointers(refused) == ["/recipe/calibration_text"]
    assert "fewbits datasets upload FILE" in problem_of(refused)["detail"]


def test_a_job_shows_what_its_method_looked_at_under_the_name_it_asked_for(caller: Caller, database: Database) -> None:
    for dataset in (uploaded(caller), "mixed"):
        job = caller.submit(recipe(dataset))
        assert job["result"] is None
        work = Workers(database)
        work.do("fetch", {"model": {"weight_bytes": 1}})
        work.do("calibrate", CALIBRATION)
        result = caller.get(f"/v1/jobs/{job['id']}").get_json()["result"]
        assert result["calibration"] == {**CALIBRATION, "text": dataset}
        caller.post(f"/v1/jobs/{job['id']}/cancel")


@pytest.mark.parametrize("dataset", ["novel", "dataset_1", "", "dataset_" + "0" * 26])
def test_an_unknown_dataset_is_refused_with_what_would_be_good(caller: Caller, dataset: str) -> None:
    answer = caller.post("/v1/jobs", {"source": "file:///models/tiny", "recipe": recipe(dataset)})
    assert answer.status_code == 422
    assert pointers(answer) == ["/recipe/calibration_text"]
    assert "fewbits datasets upload FILE" in problem_of(answer)["detail"]
    assert ("mixed, prose, code" in problem_of(answer)["detail"]) is (len(dataset) < 20)


def test_a_dataset_stays_for_as_long_as_an_open_job_needs_it(caller: Caller) -> None:
    dataset_id = uploaded(caller)
    job = caller.submit(recipe(dataset_id))
    answer = remove(caller, dataset_id)
    assert answer.status_code == 409
    assert job["id"] in problem_of(answer)["detail"]
    caller.post(f"/v1/jobs/{job['id']}/cancel")
    assert remove(caller, dataset_id).status_code == 200
    retried = caller.post(f"/v1/jobs/{job['id']}/retry")
    assert pointers(retried) == ["/recipe/calibration_text"]


def test_a_job_is_not_written_for_a_dataset_that_is_being_deleted(caller: Caller, database: Database) -> None:
    dataset_id = uploaded(caller)
    team = caller_team(database)
    answers: list[TestResponse] = []
    body = {"source": "file:///models/tiny", "recipe": recipe(dataset_id)}
    submit = threading.Thread(target=lambda: answers.append(caller.post("/v1/jobs", body)))
    with database.transaction() as session:
        datasets.remove(session, team, dataset_id)
        submit.start()
        submit.join(0.5)
        assert submit.is_alive()
    submit.join()
    assert answers[0].status_code == 422


def caller_team(database: Database) -> TeamId:
    with database.transaction() as session:
        return TeamId(str(session.scalar(sql("SELECT team_id FROM datasets"))))


def test_uploads_deletions_and_collections_at_once_leave_nothing_half(
    app: APIFlask, caller: Caller, database: Database
) -> None:
    statuses: list[int] = []

    def go_round() -> None:
        own = Caller(app.test_client(), caller.key)
        for _ in range(15):
            answer = upload(own)
            statuses.append(answer.status_code)
            if answer.is_json and "id" in answer.get_json():
                statuses.append(remove(own, answer.get_json()["id"]).status_code)
            collect(app, database)

    threads = [threading.Thread(target=go_round) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 201, 404, 503}
    assert 201 in statuses
    dataset_id = uploaded(caller)
    collect(app, database)
    assert is_stored(app, PLAIN)
    remove(caller, dataset_id)
    collect(app, database)
    assert not is_stored(app, PLAIN)


def test_no_collection_takes_a_dataset_and_one_takes_what_is_deleted(
    app: APIFlask, caller: Caller, stranger: Caller, database: Database
) -> None:
    ours, theirs = uploaded(caller), uploaded(stranger)
    assert collect(app, database) == 0
    remove(caller, ours)
    assert collect(app, database) == 0
    assert is_stored(app, PLAIN)
    remove(stranger, theirs)
    assert collect(app, database) == 1
    assert not is_stored(app, PLAIN)
    assert uploaded(caller)
    assert is_stored(app, PLAIN)


def test_bytes_that_an_artifact_has_outlive_the_text(app: APIFlask, caller: Caller, database: Database) -> None:
    dataset_id = uploaded(caller)
    work = Workers(database)
    caller.submit()
    file = StoredFile("a", hashlib.sha256(PLAIN).hexdigest(), len(PLAIN))
    work.do("fetch", {"model": {"weight_bytes": 1}}, files=[file])
    remove(caller, dataset_id)
    assert collect(app, database) == 0
    assert is_stored(app, PLAIN)


def test_an_upload_that_never_ended_is_seen_by_nobody_and_forgotten(
    app: APIFlask, caller: Caller, database: Database
) -> None:
    uploaded(caller, b"another")
    new = datasets.NewDataset("x", DatasetKind.TEXT, hashlib.sha256(PLAIN).hexdigest(), len(PLAIN), 1)
    dataset_id = database.run(partial(datasets.announce, team_id=caller_team(database), new=new))
    assert caller.get(f"/v1/datasets/{dataset_id}").status_code == 404
    assert remove(caller, dataset_id).status_code == 404
    assert len(caller.get("/v1/datasets").get_json()["data"]) == 1
    assert collect(app, database) == 1
    with pytest.raises(StoreFailed):
        database.run(partial(datasets.keep, dataset_id=dataset_id))
    assert len(caller.get("/v1/datasets").get_json()["data"]) == 1


def test_an_upload_that_was_broken_off_is_taken_up_by_the_next(caller: Caller, database: Database) -> None:
    uploaded(caller, b"another")
    new = datasets.NewDataset("x", DatasetKind.TEXT, hashlib.sha256(PLAIN).hexdigest(), len(PLAIN), 1)
    dataset_id = database.run(partial(datasets.announce, team_id=caller_team(database), new=new))
    answer = upload(caller)
    assert (answer.status_code, answer.get_json()["id"]) == (201, dataset_id)


def test_a_blob_that_was_lost_is_there_again_after_another_upload(app: APIFlask, caller: Caller) -> None:
    uploaded(caller)
    services_of(app).store.delete(hashlib.sha256(PLAIN).hexdigest())
    assert upload(caller).status_code == 200
    assert is_stored(app, PLAIN)


def test_nothing_is_left_on_the_disk_of_the_api(caller: Caller, temporary: Path) -> None:
    uploaded(caller)
    upload(caller, b"\xff")
    assert list(temporary.iterdir()) == []


def test_a_list_holds_one_kind_where_one_is_named(caller: Caller) -> None:
    plain = uploaded(caller)
    kinds: dict[str, dict[str, Any]] = {
        "documents": {"text": "a"},
        "chat": CHAT,
        "completion": COMPLETION,
        "multiple_choice": {"question": "a", "choices": ["b", "c"], "answer": 1},
        "reference": {"prompt": "a", "reference": "b"},
        "code": {"prompt": "a", "tests": "b"},
    }
    ids = {"text": plain} | {kind: jsonl(caller, line) for kind, line in kinds.items()}
    for kind, dataset_id in ids.items():
        (found,) = caller.get(f"/v1/datasets?kind={kind}").get_json()["data"]
        assert (found["id"], found["kind"], found["documents"]) == (dataset_id, kind, 1)
    assert len(caller.get("/v1/datasets").get_json()["data"]) == 7
    assert pointers(caller.get("/v1/datasets?kind=table")) == ["/kind"]


def test_a_file_is_of_one_kind(caller: Caller) -> None:
    answer = upload(caller, json.dumps(COMPLETION).encode() + b"\n" + json.dumps(CHAT).encode(), "application/jsonl")
    assert answer.status_code == 422
    assert "Line 2 is of kind chat, and line 1 of kind completion" in problem_of(answer)["detail"]


def test_a_method_looks_at_texts_and_conversations_alone(caller: Caller) -> None:
    assert caller.submit(recipe(jsonl(caller, CHAT)))["status"] == "queued"
    answer = caller.post("/v1/jobs", {"source": "file:///models/tiny", "recipe": recipe(jsonl(caller, COMPLETION))})
    assert answer.status_code == 422
    assert pointers(answer) == ["/recipe/calibration_text"]
    said = "is of kind completion; a calibration text must be of kind text, documents or chat"
    assert said in problem_of(answer)["detail"]


def test_an_id_of_an_earlier_release_is_found(caller: Caller, database: Database) -> None:
    """Jobs that name it are retried, and rows of texts are datasets now."""
    old = "text_" + uploaded(caller).removeprefix("dataset_")
    with database.transaction() as session:
        session.execute(sql("UPDATE datasets SET id = :id"), {"id": old})
    job = caller.submit(recipe(old))
    assert job["parameters"]["calibration_text"] == old
    assert remove(caller, old).status_code == 409


def judged_on(*domains: str, method: str = "gguf") -> dict[str, Any]:
    return {"source": "file:///models/tiny", "recipe": method, "evaluation": {"domains": [*domains]}}


def params_of(database: Database, kind: str) -> dict[str, Any]:
    with database.transaction() as session:
        found: dict[str, Any] = session.scalar(sql("SELECT params FROM steps WHERE kind = :kind"), {"kind": kind})
    return found


def test_a_job_is_judged_on_datasets_of_its_team(caller: Caller, database: Database) -> None:
    line = json.dumps(COMPLETION).encode()
    own = jsonl(caller, COMPLETION)
    job = caller.post("/v1/jobs", judged_on("prose", own, method="gptq")).get_json()
    assert job["evaluation"]["domains"] == ["prose", own]
    about = {"kind": "completion", "sha256": hashlib.sha256(line).hexdigest(), "size_bytes": len(line)}
    for kind in ("reference", "evaluate", "calibrate"):
        params = params_of(database, kind)
        assert (params["domains"], params["datasets"]) == (["prose", own], {own: about})
    assert remove(caller, own).status_code == 409
    caller.post(f"/v1/jobs/{job['id']}/cancel")
    assert remove(caller, own).status_code == 200
    assert pointers(caller.post(f"/v1/jobs/{job['id']}/retry")) == ["/evaluation/domains/1"]


def test_a_plan_without_own_datasets_is_the_one_that_it_was(caller: Caller, database: Database) -> None:
    """Or results of before would not be reused."""
    caller.post("/v1/jobs", judged_on("prose"))
    assert "datasets" not in params_of(database, "reference")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"question": "a", "choices": ["b", "c"], "answer": 1}, "is of kind multiple_choice; what perplexity"),
        ({"prompt": "a", "reference": "b"}, "must be of kind text, documents, chat or completion"),
    ],
)
def test_perplexity_is_not_measured_on_questions(caller: Caller, line: Mapping[str, Any], said: str) -> None:
    answer = caller.post("/v1/plan", judged_on(jsonl(caller, line)))
    assert answer.status_code == 422
    assert pointers(answer) == ["/evaluation/domains/0"]
    assert said in problem_of(answer)["detail"]


def test_a_dataset_that_the_team_has_not_is_no_domain(caller: Caller, stranger: Caller) -> None:
    for unknown in (uploaded(stranger), "dataset_" + "0" * 26, "text_" + "0" * 26):
        answer = caller.post("/v1/jobs", judged_on(unknown))
        assert (answer.status_code, pointers(answer)) == (422, ["/evaluation/domains/0"])
        assert f"There is no dataset {unknown}" in problem_of(answer)["detail"]
    answer = caller.post("/v1/jobs", judged_on("dataset_1"))
    assert "or the id of a dataset of your team" in problem_of(answer)["errors"][0]["detail"]
