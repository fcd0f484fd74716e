"""Reports by the SDK and the command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fewbits_client import Client, Problem, UnexpectedAnswer
from fewbits_client.cli.exits import Exit
from tests.client.fake_api import FakeApi

Fewbits = Callable[..., int]
Captured = pytest.CaptureFixture[str]
PAGE = "<!doctype html><p>ein B\N{LATIN SMALL LETTER E WITH ACUTE}richt"
JOB, SWEEP = "/v1/jobs/job_1/report", "/v1/sweeps/sweep_1/report"


def has_page(api: FakeApi, path: str) -> None:
    api.on("GET", path, lambda exchange: exchange.send(200, PAGE.encode(), "text/html; charset=utf-8"))


def test_a_report_is_asked_for_as_a_page_or_as_json(api: FakeApi, client: Client) -> None:
    has_page(api, JOB)
    assert client.report("job_1") == PAGE
    api.answers("GET", SWEEP, {"object": "sweep"})
    assert client.report_facts("sweep_1") == {"object": "sweep"}
    (asked,), (asked_for_json,) = api.requests(JOB), api.requests(SWEEP)
    assert (asked.headers["accept"], asked_for_json.headers["accept"]) == ("text/html", "application/json")


def test_what_is_no_page_is_not_taken_for_one(api: FakeApi, client: Client) -> None:
    api.answers("GET", JOB, {})
    with pytest.raises(UnexpectedAnswer):
        client.report("job_1")
    api.refuses("GET", SWEEP, 404, code="not_found", detail="There is no report yet.")
    with pytest.raises(Problem, match="no report yet"):
        client.report("sweep_1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", [JOB, SWEEP])
def test_the_command_saves_it_and_says_where(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, folder: Path, path: str
) -> None:
    object_id = path.split("/")[3]
    has_page(api, path)
    assert fewbits("report", object_id) == Exit.OK
    assert capsys.readouterr().out == f"{object_id}-report.html\n"
    assert (folder / f"{object_id}-report.html").read_text(encoding="utf-8") == PAGE
    assert fewbits("report", object_id, "--to", "kept.html") == Exit.OK
    assert (folder / "kept.html").read_text(encoding="utf-8") == PAGE


def test_with_json_it_is_what_the_report_is_made_of(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, folder: Path
) -> None:
    api.answers("GET", JOB, {"schema": "urn:fewbits:provenance:1"})
    assert fewbits("report", "job_1", "--json") == Exit.OK
    assert json.loads(capsys.readouterr().out) == {"schema": "urn:fewbits:provenance:1"}
    assert list(folder.iterdir()) == []


def test_where_there_is_none_nothing_is_written(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, tmp_path: Path
) -> None:
    api.refuses("GET", JOB, 404, code="not_found", detail="There is no report yet.")
    assert fewbits("report", "job_1", "--to", str(tmp_path / "r.html")) == Exit.REFUSED
    assert "no report yet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
