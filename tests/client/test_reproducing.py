"""`reproduce`: what it asks for, what it says of the answer, and what it says of folders that it cannot use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewbits_client import NotReproducible
from fewbits_client.provenance import SCHEMA, read_provenance
from pipeline.provenance import SCHEMA as WRITTEN
from pipeline.retracing import retrace
from tests.client.fake_api import FakeApi, a_dataset, a_job, a_step, done_frame
from tests.pipeline.record import CALIBRATED, TASK, documenting, done, judged_by_a_task

Fewbits = Callable[..., int]
Captured = pytest.CaptureFixture[str]

OWN = "dataset_" + "0" * 26
SHA256 = "a" * 64  # of every file on the record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A downloaded result, as the server describes it."""
    describe(tmp_path, "gptq:4bit-g128")
    return tmp_path


def describe(folder: Path, recipe: Any, **changes: Any) -> None:
    made = retrace(documenting(recipe, "config.json", "model.safetensors", **changes))
    (folder / "fewbits.json").write_text(made.text())


def made_again(api: FakeApi, sha256: str = SHA256, *, reused: bool = False) -> None:
    """Have the server make a job that succeeds at once, with the same files."""
    job = a_job(steps=[{**a_step("quantize", "succeeded"), "reused": reused}])
    files = [{"name": name, "size_bytes": 7, "sha256": sha256} for name in ("config.json", "model.safetensors")]
    artifact = {"id": "art_1", "object": "artifact", "files": files}
    api.answers("POST", "/v1/jobs", job, 201)
    api.answers("GET", "/v1/jobs/job_1", job)
    api.streams("job_1", done_frame(job))
    api.answers("GET", "/v1/jobs/job_1/artifacts", {"object": "list", "data": [artifact], "has_more": False})


def test_the_client_reads_what_the_server_writes() -> None:
    assert SCHEMA == WRITTEN


def test_the_same_is_asked_for(api: FakeApi, fewbits: Fewbits, capsys: Captured, folder: Path) -> None:
    made_again(api)
    assert fewbits("reproduce", str(folder)) == 0
    assert "job_1" in capsys.readouterr().out
    asked = api.requests("/v1/jobs")[0].body
    assert asked["source"] == "file:///models/llama"
    assert asked["recipe"]["method"] == "gptq"
    assert (asked["recipe"]["bits"], asked["recipe"]["seed"], asked["recipe"]["calibration_text"]) == (4, 0, "mixed")
    assert asked["evaluation"] == {"domains": ["prose", "code"], "windows": 40}
    assert asked.keys() == {"source", "recipe", "evaluation"}


def test_the_model_may_be_elsewhere_now(api: FakeApi, fewbits: Fewbits, folder: Path) -> None:
    made_again(api)
    assert fewbits("reproduce", str(folder), "--source", "file:///moved") == 0
    assert api.requests("/v1/jobs")[0].body["source"] == "file:///moved"


@pytest.mark.parametrize("sha256", [SHA256, "b" * 64], ids=["same", "different"])
def test_it_says_what_is_the_same(api: FakeApi, fewbits: Fewbits, capsys: Captured, folder: Path, sha256: str) -> None:
    made_again(api, sha256)
    is_same = sha256 == SHA256
    assert fewbits("reproduce", str(folder), "--wait") == (0 if is_same else 1)
    assert capsys.readouterr().out.count("same  " if is_same else "DIFFERENT  ") == 2
    assert fewbits("reproduce", str(folder), "--wait", "--json") == (0 if is_same else 1)
    reproduced = json.loads(capsys.readouterr().out)["reproduced"]
    assert reproduced == dict.fromkeys(["config.json", "model.safetensors"], is_same)


def test_what_was_reused_proves_nothing_and_is_told(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, folder: Path
) -> None:
    made_again(api, reused=True)
    assert fewbits("reproduce", str(folder), "--wait") == 0
    assert "was reused" in capsys.readouterr().err


def test_an_own_text_is_found_by_its_bytes(api: FakeApi, fewbits: Fewbits, capsys: Captured, tmp_path: Path) -> None:
    recipe = {"method": "gptq", "calibration_text": OWN}
    describe(tmp_path, recipe, calibrate=done({**CALIBRATED, "text": "own"}))
    made_again(api)
    mine = a_dataset(id="dataset_mine", sha256=CALIBRATED["text_sha256"])
    for datasets in ([a_dataset()], [a_dataset(), mine]):
        api.answers("GET", "/v1/datasets", {"object": "list", "data": datasets, "has_more": False})
    assert fewbits("reproduce", str(tmp_path)) == 1
    assert "fewbits datasets upload" in capsys.readouterr().err
    assert fewbits("reproduce", str(tmp_path)) == 0
    assert api.requests("/v1/jobs")[0].body["recipe"]["calibration_text"] == "dataset_mine"


def test_an_own_dataset_that_it_was_judged_on_is_found_by_its_bytes(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, folder: Path
) -> None:
    path = folder / "fewbits.json"
    document = json.loads(path.read_text())
    condition = {"metric": "agreement", "domain": OWN, "max": None, "min": 0.9}
    document["evaluation"] |= {
        "domains": ["prose", OWN],
        "datasets": {OWN: {"kind": "chat", "sha256": "c" * 64}},
        "gate": [condition],
    }
    path.write_text(json.dumps(document))
    made_again(api)
    mine = a_dataset(id="dataset_mine", sha256="c" * 64, kind="chat")
    other = a_dataset(id="dataset_other", sha256="c" * 64, kind="documents")
    for datasets in ([other], [mine, other]):
        api.answers("GET", "/v1/datasets", {"object": "list", "data": datasets, "has_more": False})
    assert fewbits("reproduce", str(folder)) == 1
    assert "fewbits datasets upload" in capsys.readouterr().err
    assert fewbits("reproduce", str(folder)) == 0
    asked = api.requests("/v1/jobs")[0].body
    assert asked["evaluation"]["domains"] == ["prose", "dataset_mine"]
    assert asked["gate"] == [{"metric": "agreement", "domain": "dataset_mine", "min": 0.9}]


def test_tasks_are_asked_for_again_by_their_bytes(api: FakeApi, fewbits: Fewbits, tmp_path: Path) -> None:
    (tmp_path / "fewbits.json").write_text(retrace(judged_by_a_task()).text())
    made_again(api)
    mine = a_dataset(id="dataset_mine", sha256="e" * 64, kind="reference")
    for datasets in ([], [mine]):
        api.answers("GET", "/v1/datasets", {"object": "list", "data": datasets, "has_more": False})
    assert fewbits("reproduce", str(tmp_path)) == 1
    assert fewbits("reproduce", str(tmp_path)) == 0
    asked = api.requests("/v1/jobs")[0].body
    assert (asked["evaluation"]["tasks"], asked["evaluation"]["task_items"]) == (["dataset_mine"], 200)
    assert asked["gate"] == [{"metric": "accuracy_drop", "max": 0.01}]


def test_a_condition_of_one_task_is_asked_for_of_the_same(api: FakeApi, fewbits: Fewbits, tmp_path: Path) -> None:
    document = json.loads(retrace(judged_by_a_task()).text())
    document["evaluation"]["gate"][0]["task"] = TASK
    (tmp_path / "fewbits.json").write_text(json.dumps(document))
    made_again(api)
    mine = a_dataset(id="dataset_mine", sha256="e" * 64, kind="reference")
    api.answers("GET", "/v1/datasets", {"object": "list", "data": [mine], "has_more": False})
    assert fewbits("reproduce", str(tmp_path)) == 0
    asked = api.requests("/v1/jobs")[0].body
    assert asked["gate"] == [{"metric": "accuracy_drop", "task": "dataset_mine", "max": 0.01}]


DAMAGE: list[tuple[Any, str]] = [
    (None, "there is no"),
    (b"", "is damaged"),
    (b"\xff\xfe", "is damaged"),
    (b"[" * 100_000, "is damaged"),
    (b"[]", "no JSON object"),
    (b"{}", "does not describe a result of fewbits"),
    (b'{"schema": 3}', "does not describe a result of fewbits"),
    (b'{"schema": "urn:fewbits:provenance:2"}', "use a newer fewbits"),
    (b'{"schema": "urn:fewbits:provenance:1"}', "recipe.parameters is missing"),
]


@pytest.mark.parametrize(("content", "said"), DAMAGE)
def test_a_folder_that_cannot_be_used_is_told(
    fewbits: Fewbits, capsys: Captured, tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "fewbits.json").write_bytes(content)
    assert fewbits("reproduce", str(tmp_path)) == 1
    assert said in capsys.readouterr().err
    assert fewbits("reproduce", str(tmp_path), "--json") == 1
    assert said in json.loads(capsys.readouterr().out)["message"]


@pytest.mark.parametrize(
    "name", ["source", "source.url", "recipe.method", "evaluation.domains", "evaluation.windows", "result.files"]
)
def test_each_field_that_is_needed_is_looked_at(folder: Path, name: str) -> None:
    path = folder / "fewbits.json"
    document = json.loads(path.read_text())
    inner = document
    *parts, last = name.split(".")
    for part in parts:
        inner = inner[part]
    for broken in (None, 1.5, [1]):
        inner[last] = broken
        path.write_text(json.dumps(document))
        if name == "evaluation.domains" and broken == [1]:
            continue  # the server says what is wrong with it
        with pytest.raises(NotReproducible, match="is damaged"):
            read_provenance(folder)
