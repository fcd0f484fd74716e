"""Reports by the API: of a job the file that was written with its result, of a sweep a page made of its answer."""

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask

from api.services import services_of
from api.sweep_objects import Sweep
from api.sweep_report import sweep_report
from core.manifest import StoredFile
from db.session import Database
from tests.api.conftest import Caller, problem_of
from tests.api.test_sweeps import MEASURES, submit
from tests.api.work import CHECKS, MODEL_FACTS, Workers

HTML = {"Accept": "text/html"}
JSON = {"Accept": "application/json"}
REPORT, PROVENANCE = b"<!doctype html><p>r\xc3\xa9port</p>", b'{"schema": "urn:fewbits:provenance:1"}\n'


def document(app: APIFlask, database: Database, folder: Path, decided: dict[str, Any] | None = None) -> None:
    """Bring the one job that there is to its end, with its report in the store."""
    files = []
    for name, content in (("report.html", REPORT), ("fewbits.json", PROVENANCE)):
        sha256 = hashlib.sha256(content).hexdigest()
        arrived = folder / "arrived"
        arrived.write_bytes(content)
        services_of(app).store.put(arrived, sha256)
        files.append(StoredFile(name, sha256, len(content)))
    work = Workers(database)
    work.do("fetch", MODEL_FACTS)
    work.do("convert")
    work.do("quantize", {"size_bytes": 300}, files=[StoredFile("model.gguf", "c" * 64, 7)])
    work.do("reference", perplexity={"prose": 23.7, "code": 7.5})
    work.do("verify", {"checks": CHECKS})
    work.do("evaluate", decided, perplexity={"prose": 24.4, "code": 7.7}, measures=MEASURES)
    work.do("document", files=files)


@pytest.mark.parametrize("decided", [None, {"verdict": "blocked", "gate": []}])
def test_a_jobs_report_is_the_file_that_was_written(
    app: APIFlask, caller: Caller, database: Database, tmp_path: Path, decided: dict[str, Any] | None
) -> None:
    job_id = caller.submit()["id"]
    document(app, database, tmp_path, decided)
    page = caller.get(f"/v1/jobs/{job_id}/report", **HTML)
    assert (page.status_code, page.mimetype, page.data) == (200, "text/html", REPORT)
    assert "sandbox" in page.headers["Content-Security-Policy"]
    assert page.headers["Content-Disposition"] == f'inline; filename="{job_id}-report.html"'
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    facts = caller.get(f"/v1/jobs/{job_id}/report", **JSON)
    assert (facts.mimetype, facts.data) == ("application/json", PROVENANCE)
    assert caller.get(f"/v1/jobs/{job_id}/report").data == REPORT


def test_a_report_that_is_not_there_says_why(caller: Caller, stranger: Caller) -> None:
    job_id = caller.submit()["id"]
    early = caller.get(f"/v1/jobs/{job_id}/report")
    assert early.status_code == 404
    assert "no report yet" in problem_of(early)["detail"]
    caller.post(f"/v1/jobs/{job_id}/cancel")
    late = caller.get(f"/v1/jobs/{job_id}/report")
    assert "it is cancelled" in problem_of(late)["detail"]
    assert stranger.get(f"/v1/jobs/{job_id}/report").status_code == 404
    assert caller.get("/v1/jobs/job_none/report").status_code == 404


def test_a_sweeps_report_has_all_of_its_answer(
    app: APIFlask, caller: Caller, stranger: Caller, database: Database, tmp_path: Path
) -> None:
    sweep = submit(caller, ["gguf:Q8_0"])
    document(app, database, tmp_path)
    caller.post(f"/v1/sweeps/{sweep['id']}/recipes", {"recipes": ["gguf:Q4_K_M"]})
    path = f"/v1/sweeps/{sweep['id']}/report"
    facts = caller.get(path, **JSON).get_json()
    assert facts == caller.get(f"/v1/sweeps/{sweep['id']}").get_json()
    page = caller.get(path, **HTML)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "sandbox" in page.headers["Content-Security-Policy"]
    for said in (sweep["id"], *(row["recipe"] for row in facts["rows"]), "2 recipes compared", "Size against loss"):
        assert said in page.text
    assert facts["recommendation"]["reason"] in page.text
    assert page.text.count("<svg ") == 2
    assert f"/jobs/{facts['rows'][0]['job']}" in page.text
    assert stranger.get(path).status_code == 404


def test_a_sweeps_report_is_there_before_anything_is_known(caller: Caller) -> None:
    page = caller.get(f"/v1/sweeps/{submit(caller)['id']}/report")
    assert page.status_code == 200
    assert "<svg" not in page.text


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.001, "high": value + 0.002}


def a_row(place: int) -> dict[str, Any]:
    comparison = {"items": 32, "tokens": 8192, "baseline_perplexity": 20.0, "perplexity": 21.0}
    measures = dict.fromkeys(("perplexity_ratio", "kl_divergence", "kl_divergence_p99", "agreement"), estimate(1.01))
    return {
        "job": f"job_{place}",
        "recipe": f"gguf:<b>{place}</b>",
        "status": "succeeded",
        "error": None,
        "verdict": None,
        "size_bytes": 10**9 + place * 10**8,
        "bits_per_weight": 4.5,
        "pareto": place % 2 == 0,
        "comparison": {text: {**comparison, **measures} for text in ("prose", "code")},
        "tasks": None,
        "generation_tokens_per_second": 50.0 + place,
        "seconds": {"cpu": 5.0},
        "cost": None,
    }


def test_what_others_wrote_is_escaped_and_drawing_does_not_keep_others_waiting(caller: Caller) -> None:
    found = submit(caller, ["gguf:Q8_0"])
    written = {"source": "file:///models/<script>alert(1)", "warnings": ["<i>w</i>"]}
    sweep = Sweep.model_validate({**found, **written, "rows": [a_row(place) for place in range(12)]})
    sweep_report(sweep, "http://here/")  # the first of a process finds its fonts
    begun = time.process_time()
    page = sweep_report(sweep, "http://here/")
    assert time.process_time() - begun < 2  # some tenths of a second; generous for a busy machine
    assert page.count("<svg ") == 3
    for wild in ("<script", "<b>", "<i>"):
        assert wild not in page
    assert "http://here/jobs/job_3" in page
