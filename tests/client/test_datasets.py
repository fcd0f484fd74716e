"""A team's own datasets by the SDK and the command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fewbits_client import Client, Problem
from tests.client.fake_api import FakeApi, a_calibration, a_dataset, a_job

Fewbits = Callable[..., int]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_bytes(b'{"text": "a"}\n' * 100_000)
    return path


def test_a_file_is_sent_as_it_is_with_its_name_and_kind(api: FakeApi, client: Client, file: Path) -> None:
    api.answers("POST", "/v1/datasets", a_dataset(), 201)
    assert client.upload_dataset(file)["id"] == "dataset_1"
    client.upload_dataset(file, name="é & b", format="text")
    first, second = api.requests("/v1/datasets")
    assert first.body == second.body == file.read_bytes()
    assert (first.path, first.headers["content-type"]) == ("/v1/datasets?name=own.jsonl", "application/jsonl")
    assert (second.path, second.headers["content-type"]) == ("/v1/datasets?name=%C3%A9+%26+b", "text/plain")
    assert first.headers["content-length"] == str(file.stat().st_size)


def test_a_dataset_that_is_refused_says_why(api: FakeApi, client: Client, file: Path) -> None:
    api.refuses("POST", "/v1/datasets", 422, code="invalid_request", detail="Line 3 is not JSON.")
    with pytest.raises(Problem, match="Line 3 is not JSON"):
        client.upload_dataset(file)


def test_texts_are_uploaded_listed_and_deleted_by_the_command(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, file: Path
) -> None:
    api.answers("POST", "/v1/datasets", a_dataset(), 201)
    api.answers("GET", "/v1/datasets", {"object": "list", "data": [a_dataset(name="a\x1b[2J")], "has_more": False})
    api.answers("DELETE", "/v1/datasets/dataset_1", {"id": "dataset_1", "object": "dataset", "deleted": True})
    assert fewbits("datasets", "upload", str(file)) == 0
    assert capsys.readouterr().out.startswith("dataset_1  17 documents, 2.0 MB, sha256 0123456789abcdef")
    assert fewbits("datasets") == 0
    listed = capsys.readouterr().out
    assert "dataset_1" in listed
    assert "\x1b[2J" not in listed
    assert fewbits("datasets", "delete", "dataset_1") == 0
    assert capsys.readouterr().out == "dataset_1 is deleted\n"
    for arguments in (("upload", str(file)), (), ("list",), ("delete", "dataset_1")):
        assert fewbits("datasets", *arguments, "--json") == 0
        assert json.loads(capsys.readouterr().out)["object"] in {"dataset", "list"}


def test_what_is_no_file_or_no_id_is_a_usage_error(fewbits: Fewbits, tmp_path: Path) -> None:
    assert fewbits("datasets", "upload", str(tmp_path / "none")) == 2
    assert fewbits("datasets", "upload", str(tmp_path)) == 2
    assert fewbits("datasets", "delete", "../jobs") == 2


def test_a_team_without_texts_is_told_how_to_bring_one(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("GET", "/v1/datasets", {"object": "list", "data": [], "has_more": False})
    assert fewbits("datasets") == 0
    assert "fewbits datasets upload FILE" in capsys.readouterr().err
    assert fewbits("datasets", "--kind", "chat") == 0
    assert "no datasets of kind chat" in capsys.readouterr().err
    assert [request.path.count("kind=chat") for request in api.requests("/v1/datasets")] == [0, 1]
    assert fewbits("datasets", "--kind", "tables") == 2


def test_a_job_shows_what_its_method_looked_at(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    job = a_job()
    job["result"]["calibration"] = a_calibration()
    api.answers("GET", "/v1/jobs/job_1", job)
    assert fewbits("show", "job_1") == 0
    shown = capsys.readouterr().out
    assert "calibration: dataset_1, 128 samples of 512 tokens, sha256 0123456789ab; 0.4% unknown; " in shown
    assert "it overlaps 3.1% of prose\n" in shown
    assert "calibration: 3.1% of the text 'prose' is in the calibration text, too." in shown
