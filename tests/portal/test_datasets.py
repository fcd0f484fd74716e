"""A team's own datasets in the portal: uploaded by a form, listed, chosen for a job by name, and deleted."""

import io
import json
import re
from functools import partial
from pathlib import Path

import pytest
from apiflask import APIFlask
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from api.services import services_of
from core.ids import TeamId
from db import keys, quotas
from db.session import Database
from db.states import Quota
from tests.api.work import CALIBRATION, Workers
from tests.portal.conftest import Visitor, shown

EVIL = '"><script>alert(1)</script>'
COMPLETION = b'{"prompt": "2 + 2 =", "completion": " 4"}'
JSONL = "\n".join(json.dumps({"text": word}) for word in ("one", "two")).encode()


def upload(visitor: Visitor, content: bytes, file: str = "own.txt", name: str = "", **headers: str) -> TestResponse:
    fields = {"form_token": visitor.token(), "name": name, "file": FileStorage(io.BytesIO(content), file)}
    boundary, body = encode_multipart(fields)  # Werkzeug's client would leave a large one open in a file
    content_type = f"multipart/form-data; boundary={boundary}"
    return visitor.client.post("/datasets", data=body, content_type=content_type, headers=headers)


def uploaded(visitor: Visitor, content: bytes, file: str = "own.txt", name: str = "") -> str:
    """Upload a dataset, and return its id."""
    answer = upload(visitor, content, file, name)
    assert answer.status_code == 303, shown(answer)
    found = re.search("dataset_[0-9a-z]{26}", answer.headers["Location"])
    assert found
    return found[0]


def team_of(visitor: Visitor, database: Database) -> TeamId:
    return database.run(partial(keys.authenticate, key=visitor.key))


def allow(visitor: Visitor, database: Database, count_max: int) -> None:
    team = team_of(visitor, database)
    database.run(partial(quotas.set_quota, team_id=team, name=Quota.DATASETS, maximum=count_max))


def test_a_dataset_is_uploaded_and_listed_with_all_that_is_known_of_it(visitor: Visitor, app: APIFlask) -> None:
    assert "no datasets of its own yet" in shown(visitor.get("/datasets"))
    answer = upload(visitor, JSONL, "chats.jsonl")
    page = shown(visitor.get(answer.headers["Location"]))
    dataset_id = uploaded(visitor, b"plain text", "own.TXT", "Support of 2026")
    bearer = {"Authorization": f"Bearer {visitor.key}"}
    first, second = app.test_client().get("/v1/datasets", headers=bearer).get_json()["data"]
    assert (first["id"], first["name"], first["kind"]) == (dataset_id, "Support of 2026", "text")
    assert (second["name"], second["kind"], second["documents"]) == ("chats.jsonl", "documents", 2)
    assert f"chats.jsonl is uploaded. Its id is {second['id']}" in page
    page = shown(visitor.get("/datasets"))
    assert "2 of the 100 that your team may keep" in page
    assert re.search(
        rf"Support of 2026 plain text 10 B 1 just now {dataset_id} .* chats.jsonl documents 31 B 2 just now", page
    )


def test_the_page_says_what_lines_may_be_and_shows_one_kind_if_asked(visitor: Visitor) -> None:
    uploaded(visitor, b"plain")
    other = uploaded(visitor, COMPLETION, "work.jsonl")
    page = visitor.get("/datasets?kind=completion&after=")
    assert '{"prompt": "…", "completion": "…"}' in shown(page)
    assert '<option value="completion" selected>completions</option>' in page.text
    assert (page.text.count("just now"), other in page.text) == (1, True)
    assert "no datasets of this kind" in shown(visitor.get("/datasets?kind=chat"))
    assert visitor.get("/datasets?kind=").text.count("just now") == 2
    assert visitor.get("/datasets?kind=table").status_code == 422


def test_bytes_that_the_team_has_are_told_as_such(visitor: Visitor) -> None:
    dataset_id = uploaded(visitor, b"text")
    again = upload(visitor, b"text", name="other")
    assert f"already: they are the dataset own.txt, {dataset_id}" in re.sub(
        r" ,", ",", shown(visitor.get(again.headers["Location"]))
    )


@pytest.mark.parametrize(
    ("content", "file", "says"),
    [
        (b"text", "own.pdf", "own.pdf is no dataset by its name, which must end in .txt, or in .jsonl"),
        (b"text", "own", "own is no dataset by its name"),
        (b"", "own.txt", "There is no text in what was sent."),
        (b"one\n\xff", "own.txt", "Line 2 is not UTF-8."),
        (b'{"text": "a"}\nno', "own.jsonl", "Line 2 is not JSON"),
        (b"text", "", "Choose a file."),
        (b"text", "<script>.pdf", "is no dataset by its name"),
    ],
)
def test_what_is_no_text_is_said_beside_its_field(visitor: Visitor, content: bytes, file: str, says: str) -> None:
    answer = upload(visitor, content, file, name="kept")
    assert answer.status_code == 422
    assert says in shown(answer)
    assert 'id="file-error"' in answer.text
    assert 'value="kept"' in answer.text
    assert "<script>" not in answer.text
    assert "no datasets of its own yet" in shown(answer)


def test_a_name_that_cannot_be_kept_is_said_beside_its_field(visitor: Visitor) -> None:
    answer = upload(visitor, b"text", name="x" * 256)
    assert answer.status_code == 422
    assert 'id="name-error"' in answer.text
    assert upload(visitor, b"text", name="a\0b").status_code == 422


def test_a_file_may_be_as_large_as_the_operator_allows_and_no_larger(visitor: Visitor, app: APIFlask) -> None:
    """That is more than other forms may bring; what is far too large is not read at all."""
    size_bytes_max = services_of(app).settings.dataset_bytes_max
    uploaded(visitor, b"x" * size_bytes_max)
    little_more = upload(visitor, b"x" * (size_bytes_max + 1))
    assert little_more.status_code == 422
    assert f"larger than the {size_bytes_max} bytes that this service takes" in shown(little_more)
    much_more = upload(visitor, b"x" * (size_bytes_max + 2**17))
    assert much_more.status_code == 413
    assert "FEWBITS_DATASET_BYTES_MAX" in shown(much_more)
    assert "Go to the datasets" in shown(much_more)
    assert visitor.client.post("/jobs/new", data={"source": "x" * 2**21}).status_code == 413


def test_a_full_quota_is_said_with_how_to_make_room(visitor: Visitor, database: Database) -> None:
    allow(visitor, database, 1)
    dataset_id = uploaded(visitor, b"one")
    answer = upload(visitor, b"two")
    assert answer.status_code == 422
    assert "has 1 datasets, uploads that are under way included, and may have 1. Delete some" in shown(answer)
    assert "1 of the 1 that your team may keep" in shown(answer)
    visitor.post(f"/datasets/{dataset_id}/delete")
    uploaded(visitor, b"two")


def test_texts_come_by_the_page_newest_first(visitor: Visitor) -> None:
    ids = [uploaded(visitor, f"dataset {number}".encode(), f"{number}.txt") for number in range(3)]
    page = visitor.get("/datasets?limit=2")
    assert [dataset_id in page.text for dataset_id in ids] == [False, True, True]
    assert page.text.index(ids[2]) < page.text.index(ids[1])
    older = re.search(r'rel="next" href="([^"]+)"', page.text)
    assert older
    assert f"after={ids[1]}" in older[1]
    rest = visitor.get(older[1].replace("&amp;", "&"))
    assert [dataset_id in rest.text for dataset_id in ids] == [True, False, False]
    assert "Newest" in shown(rest)
    assert visitor.get("/datasets?colour=red").status_code == 422


def test_a_dataset_is_deleted_once_no_job_needs_it(visitor: Visitor) -> None:
    dataset_id = uploaded(visitor, b"text", name=EVIL)
    job = visitor.submit(**{"method": "gptq", "recipe.calibration_text": dataset_id})
    refused = visitor.post(f"/datasets/{dataset_id}/delete")
    assert refused.status_code == 409
    assert "was not deleted" in shown(refused)
    assert "needs the dataset and is not over. Wait for its end, or cancel it." in shown(refused)
    assert f'href="{job}"' in refused.text
    assert "<script>" not in refused.text
    visitor.post(f"{job}/cancel")
    deleted = visitor.post(f"/datasets/{dataset_id}/delete")
    page = visitor.get(deleted.headers["Location"])
    assert f"The dataset {dataset_id} is deleted." in shown(page)
    assert "no datasets of its own yet" in shown(page)
    again = visitor.post(f"/datasets/{dataset_id}/delete")
    assert again.status_code == 404
    assert "Go to the datasets" in shown(again)


def options(page: TestResponse) -> dict[str, str]:
    """The calibration texts that a form offers: what is sent for each, and how it is called."""
    found = re.search(r'<select id="recipe.calibration_text".*?</select>', page.text, re.DOTALL)
    assert found
    return dict(re.findall(r'<option value="([^"]*)"(?: selected)?>(.*?)</option>', found[0]))


def test_a_calibration_text_is_chosen_by_its_name(visitor: Visitor, stranger: Visitor) -> None:
    builtin = {name: name for name in ("mixed", "prose", "code")}
    assert options(visitor.get("/jobs/new?method=gptq")) == builtin
    assert "optgroup" not in visitor.get("/jobs/new?method=gptq").text
    chats = uploaded(visitor, JSONL, "chats.jsonl")
    first, second = uploaded(visitor, b"aaa", "same.txt"), uploaded(visitor, b"bbb", "same.txt")
    page = visitor.get("/jobs/new?method=gptq")
    same = {dataset_id: f"same.txt, 3 B, {dataset_id}" for dataset_id in (first, second)}
    assert options(page) == {**builtin, chats: "chats.jsonl, 31 B", **same}
    uploaded(visitor, COMPLETION, "work.jsonl")
    assert options(visitor.get("/jobs/new?method=gptq")) == options(page)
    assert '<optgroup label="Of your team">' in page.text
    assert options(stranger.get("/jobs/new?method=gptq")) == builtin
    job = visitor.submit(**{"method": "gptq", "recipe.calibration_text": chats})
    like = visitor.get(f"/jobs/new?like={job.rpartition('/')[2]}")
    assert f'<option value="{chats}" selected>' in like.text
    assert "calibration_text" not in visitor.get("/jobs/new?method=odd").text


def test_a_dataset_that_is_not_there_any_more_is_not_changed_for_another(visitor: Visitor) -> None:
    dataset_id = uploaded(visitor, b"text")
    job = visitor.submit(**{"method": "gptq", "recipe.calibration_text": dataset_id})
    visitor.post(f"{job}/cancel")
    visitor.post(f"/datasets/{dataset_id}/delete")
    like = visitor.get(f"/jobs/new?like={job.rpartition('/')[2]}")
    assert f'<option value="{dataset_id}" selected>{dataset_id}, which is not there</option>' in like.text


def test_a_dataset_that_is_judged_on_is_called_by_its_name(visitor: Visitor, database: Database) -> None:
    dataset_id = uploaded(visitor, b"text " * 2000, name=EVIL)
    job = visitor.submit(**{"evaluation.domains": ["code", dataset_id]})
    sweep = visitor.post(
        "/sweeps/new", source="file:///models/tiny", recipes="gguf", **{"evaluation.domains": ["code", dataset_id]}
    ).headers["Location"]
    for address in (job, sweep):
        page = visitor.get(address)
        assert f"judged on code , {EVIL} ( {dataset_id} ); 40 windows each" in shown(page)
        assert "<script>alert" not in page.text
    visitor.post(f"{sweep}/cancel")
    work = Workers(database)
    work.do("fetch", {"model": {"weight_bytes": 12_300_000}})
    work.do("convert")
    work.do("quantize", {"size_bytes": 4_000_000})
    assert f"Perplexity, {EVIL}" in shown(visitor.get(job))
    visitor.post(f"{job}/cancel")
    visitor.post(f"/datasets/{dataset_id}/delete")
    assert f"{dataset_id} (deleted since)" in shown(visitor.get(job))


def test_a_long_list_says_that_it_has_an_end(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.portal.text_choice.DATASETS_MAX", 2)
    for number in range(3):
        uploaded(visitor, f"dataset {number}".encode(), f"{number}.txt")
    page = visitor.get("/jobs/new?method=gptq")
    assert len(options(page)) == 5
    assert "Of your team's, the newest 2 are listed." in shown(page)


def test_a_job_tells_by_name_which_text_it_was(visitor: Visitor, database: Database) -> None:
    dataset_id = uploaded(visitor, b"text", name=f"Chats {EVIL}")
    job = visitor.submit(**{"method": "gptq", "recipe.calibration_text": dataset_id})
    named = rf"Chats .*script> \( {dataset_id} \)"
    assert re.search(f"calibration_text {named}", shown(visitor.get(job)))
    work = Workers(database)
    work.do("fetch", {"model": {"weight_bytes": 1}})
    work.do("calibrate", CALIBRATION)
    page = visitor.get(job)
    assert re.search(f"512 tokens of the text {named}", shown(page))
    assert "<script>" not in page.text
    visitor.post(f"{job}/cancel")
    visitor.post(f"/datasets/{dataset_id}/delete")
    assert f"calibration_text {dataset_id} (deleted since)" in shown(visitor.get(job))
    assert "calibration_text mixed" in shown(visitor.get(visitor.submit(method="gptq")))


def test_an_upload_of_another_site_does_nothing(visitor: Visitor, stranger: Visitor) -> None:
    dataset_id = uploaded(visitor, b"text")
    other = visitor.client.post("/datasets", data={"file": (io.BytesIO(b"other"), "own.txt")})
    assert other.status_code == 422
    assert "earlier session" in shown(other)
    assert upload(visitor, b"other", **{"Sec-Fetch-Site": "cross-site"}).status_code == 422
    assert visitor.client.post(f"/datasets/{dataset_id}/delete").status_code == 422
    assert shown(visitor.get("/datasets")).count("just now") == 1
    assert stranger.post(f"/datasets/{dataset_id}/delete").status_code == 404
    assert dataset_id not in stranger.get("/datasets").text
    assert stranger.get(f"/datasets?after={dataset_id}").status_code == 422
    assert dataset_id not in stranger.get(f"/datasets?uploaded={dataset_id}").text


def test_nothing_is_left_on_the_disk_of_the_api(visitor: Visitor, temporary: Path) -> None:
    uploaded(visitor, b"x" * 2**21)
    upload(visitor, b"\xff" * 2**21)
    assert list(temporary.iterdir()) == []


def test_what_a_result_is_judged_on_is_chosen_by_name(visitor: Visitor, app: APIFlask) -> None:
    work = uploaded(visitor, COMPLETION, "work.jsonl")
    uploaded(visitor, b'{"prompt": "a", "reference": "b"}', "answers.jsonl")
    page = visitor.get("/jobs/new?method=gguf")
    boxes = dict(re.findall(r'name="evaluation.domains" value="([^"]*)"(?: checked)?> (.*?)</label>', page.text))
    assert boxes[work] == f"work.jsonl, {len(COMPLETION)} B"
    assert boxes["prose"] == "prose"
    assert len([name for name in boxes if name.startswith("dataset_")]) == 1
    job = visitor.submit(**{"evaluation.domains": ["code", work]})
    bearer = {"Authorization": f"Bearer {visitor.key}"}
    made = app.test_client().get(f"/v1{job}", headers=bearer).get_json()
    assert made["evaluation"]["domains"] == ["code", work]
    visitor.post(f"{job}/cancel")
    visitor.post(f"/datasets/{work}/delete")
    like = visitor.get(f"/jobs/new?like={job.rpartition('/')[2]}")
    assert f'value="{work}" checked> {work}, which is not there' in like.text
    refused = visitor.post(
        "/jobs/new", **{"method": "gguf", "source": "file:///models/tiny", "evaluation.domains": work}
    )
    assert refused.status_code == 422
    assert 'id="evaluation.domains-error"' in refused.text


def test_tasks_are_chosen_by_name_and_shown(visitor: Visitor, database: Database) -> None:
    task = uploaded(visitor, b'{"prompt": "a", "reference": "b"}', "answers.jsonl")
    work = uploaded(visitor, COMPLETION, "work.jsonl")
    page = visitor.get("/jobs/new?method=gguf")
    boxes = dict(re.findall(r'name="evaluation.tasks" value="([^"]*)"(?: checked)?> (.*?)</label>', page.text))
    assert [*boxes] == [task]
    assert boxes[task].startswith("answers.jsonl")
    job = visitor.submit(**{"evaluation.domains": "code", "evaluation.tasks": task, "evaluation.task_items": "50"})
    assert f"tasks answers.jsonl ( {task} ); 50 items each" in shown(visitor.get(job))
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    measures = dict.fromkeys(("accuracy", "accuracy_drop", "rouge_l", "rouge_l_drop"), estimate)
    found = {"items": 50, "baseline": {"accuracy": 0.75, "rouge_l": 0.875}, "measures": measures}
    Workers(database).do_all(decided={"tasks": {task: found}})
    told = shown(visitor.get(job))
    assert "answers.jsonl accuracy 0.750 0.500 0.400 to 0.600 0.500 0.400 to 0.600 50" in told
    assert "answers.jsonl ROUGE-L 0.875 0.500" in told
    like = visitor.get(f"/jobs/new?like={job.rpartition('/')[2]}")
    assert f'name="evaluation.tasks" value="{task}" checked' in like.text
    wrong = {"evaluation.domains": "code", "evaluation.tasks": work}
    refused = visitor.post("/jobs/new", method="gguf", source="file:///models/tiny", **wrong)
    assert refused.status_code == 422
    assert 'id="evaluation.tasks-error"' in refused.text


def test_a_sweep_shows_what_was_lost_in_each_task(visitor: Visitor, database: Database) -> None:
    task = uploaded(visitor, b'{"prompt": "a", "reference": "b"}', "answers.jsonl")
    asked = {"evaluation.domains": "code", "evaluation.tasks": task}
    sweep = visitor.post("/sweeps/new", source="file:///models/tiny", recipes="gguf", **asked).headers["Location"]
    drop = {"value": 0.02, "low": 0.01, "high": 0.03}
    found = {"items": 50, "baseline": {"accuracy": 0.75}, "measures": {"accuracy_drop": drop}}
    Workers(database).do_all(decided={"tasks": {task: found}})
    told = shown(visitor.get(sweep))
    assert "Accuracy lost" in told
    assert "answers.jsonl 0.020 0.010 to 0.030" in told
