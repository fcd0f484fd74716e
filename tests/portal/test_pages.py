"""What the pages say and do, without a browser."""

import re
from functools import partial
from html import escape
from pathlib import Path
from unittest.mock import Mock

import pytest
from apiflask import APIFlask
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from api.portal import job_view
from core.errors import ChildCrashed
from db import jobs, keys, quotas, workers
from db.metrics import NewMetric
from db.session import Database
from db.states import Quota
from db.tables import Worker
from engines import methods
from engines.recipe import parse_recipe
from store.directory import DirectoryStore
from tests.api.benchmarks import MEASURED
from tests.api.work import CALIBRATION, CHECKS, TAKEN, Workers
from tests.pipeline.record import MODEL
from tests.portal.conftest import Visitor, shown
from tests.portal.stories import CONTENT, FILE, RECIPE, begin_quantizing, end_badly, end_rejected, end_well, submit

EVIL = """<script>alert("x")</script>'"><img src=x onerror=alert(1)>"""


def test_an_empty_list_says_what_to_do(visitor: Visitor) -> None:
    assert "Submit the first job" in shown(visitor.get("/jobs"))
    assert "No job is like that" in shown(visitor.get("/jobs?status=failed"))


def test_the_list_is_filtered_and_paged(visitor: Visitor) -> None:
    addresses = [visitor.submit(labels="nightly" if number % 2 else "") for number in range(4)]
    visitor.post(f"{addresses[0]}/cancel")

    def found(query: str) -> list[str]:
        return re.findall(r'href="(/jobs/job_\w+)"', visitor.get(f"/jobs?{query}").text)

    assert found("") == addresses[::-1]
    assert found("status=&method=&label=") == addresses[::-1]
    assert found("status=cancelled") == addresses[:1]
    assert found("label=nightly&status=queued") == [addresses[3], addresses[1]]
    assert found("method=odd") == []
    assert found("created_after=") == addresses[::-1]
    assert 'name="created_after" value="2030-01-01T00:00:00Z"' in (
        visitor.get("/jobs?created_after=2030-01-01T00:00:00Z").text
    )
    first = visitor.get("/jobs?limit=2&status=queued").text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older
    assert "status=queued" in older[1]
    assert found("limit=3") == addresses[:0:-1]
    assert visitor.get("/jobs?label=a%20b").status_code == 422


def test_a_preset_fills_the_form_and_says_why(visitor: Visitor) -> None:
    text = visitor.get("/jobs/new?method=gguf").text
    assert "/jobs/new?recipe=gguf:Q4_K_M" in text
    assert escape(next(preset.why for preset in methods.get("gguf").presets if preset.name == "Q4_K_M")) in text
    text = visitor.get("/jobs/new?recipe=gguf:Q8_0").text
    assert re.search(r'<option value="Q8_0"\s+selected', text)
    assert visitor.get("/jobs/new?recipe=gguf:Q99").status_code == 422


def test_a_form_that_is_wrong_keeps_what_was_typed(visitor: Visitor) -> None:
    typed = {
        "method": "odd",
        "source": "file:///etc",
        "recipe.bits": "5",
        "recipe.damp_percent": "2",
        "recipe.seed": "seven",
        "recipe.skip": "lm_head\nembed",
        "evaluation.windows": "0",
        "metadata": "ticket=QA-1\nbroken",
        "labels": "two words",
        "priority": "500",
        "max_attempts": "0",
    }
    response = visitor.post("/jobs/new", **typed)
    assert response.status_code == 422
    for name in ("recipe.bits", "recipe.damp_percent", "recipe.seed", "evaluation.domains", "evaluation.windows"):
        assert f'href="#{name}"' in response.text
        assert f'id="{name}-error"' in response.text
    for name in ("metadata", "labels", "priority", "max_attempts"):
        assert f'id="{name}-error"' in response.text
    for text in ("file:///etc", "seven", "lm_head\nembed", "ticket=QA-1\nbroken", "two words"):
        assert escape(text) in response.text
    assert '<details class="card" open>' in response.text


def test_what_only_submitting_finds_out_is_shown_beside_its_field(visitor: Visitor) -> None:
    fields = {"method": "gguf", "recipe.type": "Q8_0", "evaluation.domains": "code"}
    for source, says in (("file:///etc", "allows"), ("ftp://x", "file://"), ("a\0b", "NUL")):
        response = visitor.post("/jobs/new", source=source, **fields)
        assert response.status_code == 422
        assert 'id="source-error"' in response.text
        assert says in shown(response)
    assert "no jobs yet" in shown(visitor.get("/jobs"))


def test_everything_in_the_form_is_submitted(visitor: Visitor, app: APIFlask) -> None:
    typed: dict[str, str | list[str]] = {
        "method": "odd",
        "recipe.bits": "3",
        "recipe.group_size": "-1",
        "recipe.calibration.domains": ["prose", "code"],
        "recipe.calibration.samples": "7",
        "recipe.dynamic": '{"lm_head": 8}',
        "evaluation.windows": "3",
        "metadata": "ticket=A=1\r\nwörter=✓",
        "labels": "nightly\r\nllama/8b",
        "priority": "-7",
        "max_runtime_seconds": "60",
        "max_attempts": "4",
        "wait_for_capacity": "on",
    }
    job = visitor.submit(**typed)
    bearer = {"Authorization": f"Bearer {visitor.key}"}
    made = app.test_client().get(f"/v1{job}", headers=bearer).get_json()
    assert made["recipe"] == "odd:3"
    assert made["parameters"]["group_size"] == -1
    assert made["parameters"]["calibration"] == {"domains": ["prose", "code"], "samples": 7}
    assert made["parameters"]["dynamic"] == {"lm_head": 8}
    assert made["evaluation"] == {"domains": ["code"], "windows": 3, "tasks": [], "task_items": 200}
    assert made["metadata"] == {"ticket": "A=1", "wörter": "✓"}
    assert made["labels"] == ["nightly", "llama/8b"]
    assert (made["priority"], made["max_runtime_seconds"], made["max_pending_seconds"]) == (-7, 60, None)
    assert (made["max_attempts"], made["wait_for_capacity"]) == (4, True)
    asked = shown(visitor.get(job))
    assert "attempts at most 4" in asked
    assert "without a worker for it waits for one" in asked
    again = visitor.get(f"/jobs/new?like={made['id']}").text
    assert re.search(r'name="wait_for_capacity" checked', again)
    assert re.search(r'name="max_attempts"[^>]*value="4"', again)
    for shown_again in ("ticket=A=1\nwörter=✓", "nightly\nllama/8b", 'value="-7"', 'value="60"', "/models/tiny"):
        assert shown_again in again
    assert visitor.get("/jobs/new?method=nothing").status_code == 422


def test_more_attempts_than_are_allowed_are_refused_beside_their_field(visitor: Visitor) -> None:
    fields = {"method": "gguf", "source": "file:///models/tiny", "recipe.type": "Q8_0", "evaluation.domains": "code"}
    response = visitor.post("/jobs/new", max_attempts="11", **fields)
    assert response.status_code == 422
    assert 'id="max_attempts-error"' in response.text
    assert "A job may ask for 10 attempts at most." in shown(response)


def test_a_job_without_a_worker_is_refused_with_what_to_do(visitor: Visitor, database: Database) -> None:
    with database.transaction() as session:
        session.execute(delete(Worker).where(Worker.pool == "gpu"))
    fields = {"method": "gguf", "source": "file:///models/tiny", "recipe.type": "Q8_0", "evaluation.domains": "code"}
    response = visitor.post("/jobs/new", **fields)
    assert response.status_code == 422
    assert "Reference needs a gpu worker" in shown(response)
    assert "or set wait_for_capacity" in shown(response)
    assert 'id="wait_for_capacity-error"' in response.text
    assert '<details class="card" open>' in response.text
    assert visitor.post("/jobs/new", wait_for_capacity="on", **fields).status_code == 303


def test_a_forecast_submits_nothing_and_keeps_what_was_typed(visitor: Visitor) -> None:
    fields = {"method": "gguf", "recipe.type": "Q8_0", "evaluation.domains": "code", "labels": "mine", "plan": "1"}
    response = visitor.post("/jobs/new", source="file:///models/tiny", **fields)
    assert response.status_code == 200
    assert 'id="about-plan"' in response.text
    assert "cannot be seen from here" in shown(response)
    assert "mine" in response.text
    assert "no jobs yet" in shown(visitor.get("/jobs"))
    assert 'id="source-error"' in visitor.post("/jobs/new", source="file:///etc", **fields).text


def test_a_full_quota_is_said_in_the_form_and_on_a_page(visitor: Visitor, database: Database) -> None:
    over = visitor.submit()
    visitor.post(f"{over}/cancel")
    team = database.run(partial(keys.authenticate, key=visitor.key))
    database.run(partial(quotas.set_quota, team_id=team, name=Quota.QUEUED_JOBS, maximum=0))
    fields = {"method": "gguf", "source": "file:///models/tiny", "recipe.type": "Q8_0", "evaluation.domains": "code"}
    assert "and may have 0" in shown(visitor.post("/jobs/new", **fields))
    retried = visitor.post(f"{over}/retry")
    assert retried.status_code == 429
    assert "and may have 0" in shown(retried)


def test_attempts_are_told_once_one_went_wrong(visitor: Visitor, database: Database) -> None:
    job = f"/jobs/{submit(database, visitor.key)}"
    work = Workers(database)
    taken = work.start("fetch")
    assert "Attempts" not in shown(visitor.get(job))
    work.fail(taken, ChildCrashed(f"It was killed. {EVIL}"), attempts_max=3, peaks=TAKEN)
    assert "Attempts fetch, attempt 1" in shown(visitor.get(job))
    work.do("fetch", {"model": {"weight_bytes": 12_300_000}})
    work.start("convert")
    page = visitor.get(job)
    text = shown(page)
    assert re.search(r"fetch, attempt 1 ✕ failed after .* on test, cpu, 5.0 GB of memory \(1 B forecast\), 2", text)
    assert ", 2.0 GB of scratch disk (1 B forecast) It was killed" in text
    assert re.search(r"fetch, attempt 2 ✓ succeeded after .* on test, cpu", text)
    assert "convert, attempt" not in text
    assert "<script>" not in page.text


def test_a_job_tells_what_its_method_looked_at(visitor: Visitor, database: Database) -> None:
    typed = {"method": "gptq", "recipe.calibration_text": "mixed"}
    job = visitor.submit(**typed)
    assert "Calibration" not in shown(visitor.get(job))
    work = Workers(database)
    work.do("fetch", {"model": {"weight_bytes": 12_300_000}})
    work.do("calibrate", {**CALIBRATION, "warnings": [EVIL]})
    page = visitor.get(job)
    said = "128 samples of 512 tokens of the text mixed , 0.4 % of them unknown to the tokenizer. 3.1 % of the text"
    assert said in shown(page)
    assert "2" * 64 in shown(page)
    assert EVIL in shown(page)
    assert "<script>" not in page.text


def test_a_text_of_nobody_is_refused_beside_its_field(visitor: Visitor) -> None:
    fields = {"method": "gptq", "source": "file:///models/tiny", "evaluation.domains": "code"}
    for text in ("novel", "text_" + "0" * 26):
        response = visitor.post("/jobs/new", **fields, **{"recipe.calibration_text": text})
        assert response.status_code == 422
        assert 'id="recipe.calibration_text-error"' in response.text
        assert "fewbits datasets upload FILE" in shown(response)


def test_a_finished_job_tells_what_was_lost_and_gives_its_files(
    visitor: Visitor, database: Database, tmp_path: Path
) -> None:
    job = f"/jobs/{submit(database, visitor.key)}"
    work = Workers(database)
    end_well(work, begin_quantizing(work))
    (tmp_path / FILE.name).write_bytes(CONTENT)
    DirectoryStore(tmp_path / "store").put(tmp_path / FILE.name, FILE.sha256)
    page = visitor.get(job)
    text = shown(page)
    for said in (
        "succeeded",
        "12.3 MB 4.0 MB",
        "+3.04 %",
        "Verification: passed. 3 of 3 checks",
        "layer 11, mlp.down_proj",
    ):
        assert said in text
    for note in parse_recipe(RECIPE).runtimes:
        assert f"{note.runtime} {note.version} {note.gpus}: {note.how}" in text
    address = re.search(r'href="(/jobs/[^"]+/files/[^"]+)"', page.text)
    assert address
    download = visitor.get(address[1])
    assert download.data == CONTENT
    assert download.headers["Content-Disposition"].startswith("attachment")
    assert visitor.get(address[1], Range="bytes=0-3").data == b"GGUF"


def test_a_job_tells_how_fast_its_result_is_and_what_serving_takes(visitor: Visitor, database: Database) -> None:
    fields = {"method": "gguf", "recipe.type": "Q8_0", "evaluation.domains": "code", "benchmark.batch_sizes": "1, 4"}
    job = visitor.submit(**fields, benchmark="on")
    assert "speed measured after 512 tokens, 1, 4 at once" in shown(visitor.get(job))
    again = visitor.get(f"/jobs/new?like={job.rpartition('/')[2]}").text
    assert re.search(r'name="benchmark" checked', again)
    assert re.search(r'name="benchmark.batch_sizes" value="1, 4"', again)
    work = Workers(database)
    work.do("fetch", {"model": {**MODEL, "position_count": 2048, "head_count": 4}})
    work.do("convert")
    work.do("quantize", {"size_bytes": 4_000_000})
    work.do("reference")
    work.do("verify", {"checks": CHECKS})
    assert "Memory to serve it" in shown(visitor.get(job))
    assert "2,048 4.0 MB 12.6 MB 16.6 MB" in shown(visitor.get(job))
    work.bind()
    for _ in range(2):
        taken = work.claim("cpu")
        assert taken is not None
        work.finish(taken, {"evaluate": {}, "benchmark": {**MEASURED, "note": EVIL}}[taken.kind])
    page = visitor.get(job)
    assert "1,024 4 5,000.0 2,500.0 to 10,000.0 40.0 20.0 to 80.0 250.0 125.0 to 500.0" in shown(page)
    assert "Measured alone on a processor (8 CPU threads) by llama.cpp" in shown(page)
    assert EVIL in shown(page)
    assert "<script>" not in page.text


def test_a_rejected_result_is_said_and_not_offered(visitor: Visitor, database: Database) -> None:
    job = f"/jobs/{submit(database, visitor.key)}"
    work = Workers(database)
    end_rejected(work, begin_quantizing(work))
    page = visitor.get(job)
    assert "Verification: rejected." in shown(page)
    assert "The source's chat template is lost." in shown(page)
    assert "What can serve it" not in shown(page)
    assert "/files/" not in page.text


def test_what_was_told_at_submit_stands_on_the_page(visitor: Visitor) -> None:
    told = "No server that is known here can serve what gptq:3bit-g128 makes"
    typed = {"method": "gptq", "recipe.calibration_text": "mixed", "recipe.sym": "on"}
    assert told in shown(visitor.get(visitor.submit(**typed, **{"recipe.bits": "3"})))
    assert told not in shown(visitor.get(visitor.submit(**typed, **{"recipe.bits": "4"})))


def test_a_failed_job_says_why_and_can_be_retried(visitor: Visitor, database: Database) -> None:
    job = f"/jobs/{submit(database, visitor.key)}"
    end_badly(Workers(database))
    text = shown(visitor.get(job))
    assert "Why it failed The child was killed by SIGKILL" in text
    assert "no such folder" in text
    assert "Verification: undecided." in text
    again = visitor.post(f"{job}/retry").headers["Location"]
    assert again != job
    assert f"retry of {job.rpartition('/')[2]}" in shown(visitor.get(again))


def test_a_job_says_what_it_waits_for(visitor: Visitor, database: Database) -> None:
    job = visitor.submit()
    database.run(partial(workers.pause, pool="cpu"))
    assert "Fetch waits: the cpu pool is paused by its operator." in shown(visitor.get(job))
    database.run(partial(workers.resume, pool="cpu"))
    assert "Fetch waits" not in shown(visitor.get(job))


def test_what_is_not_possible_is_said_on_a_page(visitor: Visitor) -> None:
    job = visitor.submit()
    assert visitor.post(f"{job}/retry").status_code == 409
    assert visitor.post(f"{job}/cancel").headers["Location"] == job
    assert "cancelled" in shown(visitor.get(job))
    html = {"Accept": "text/html"}
    for path, status in (("/jobs/job_0", 404), ("/nothing", 404), (f"{job}/cancel", 405), ("/jobs?colour=red", 422)):
        response = visitor.get(path, **html)
        assert (response.status_code, response.mimetype) == (status, "text/html")
        assert "Go to the jobs" in shown(response)


def test_nothing_that_a_user_wrote_becomes_markup(visitor: Visitor, database: Database) -> None:
    job_id = submit(database, visitor.key, EVIL, source=EVIL, metadata={EVIL: EVIL})
    work = Workers(database)
    taken = work.start("fetch")
    work.log(taken, EVIL)
    work.measure(taken, NewMetric(0, EVIL, {"loss": 1.0}))
    work.progress(taken, 1)
    for path in (
        "/jobs",
        f"/jobs/{job_id}",
        f"/jobs/new?like={job_id}",
        "/jobs/new?source=" + EVIL.replace('"', "%22"),
    ):
        page = visitor.get(path).text
        assert "alert" in page
        assert "<script>" not in page
        assert "<img" not in page


def test_a_very_long_log_shows_its_end(visitor: Visitor, database: Database) -> None:
    job_id = submit(database, visitor.key)
    work = Workers(database)
    taken = work.start("fetch")
    for number in range(40):
        work.log(taken, f"piece {number}\n" + "x" * 60_000)
    page = visitor.get(f"/jobs/{job_id}").text
    assert "piece 39" in page
    assert "piece 37" not in page
    assert len(page) < 4 * job_view.LOG_BYTES


def test_ten_thousand_metrics_are_one_drawing(visitor: Visitor, database: Database) -> None:
    job_id = submit(database, visitor.key)
    work = Workers(database)
    taken = work.start("fetch")
    measured = [
        NewMetric(layer, f"mlp.experts.{expert}.{name}", {"loss": 0.01 * (layer + expert + 1)})
        for layer in range(27)
        for expert in range(128)
        for name in ("gate_proj", "up_proj", "down_proj")
    ]
    work.measure(taken, *measured)
    work.measure(taken, NewMetric(0, "self_attn.q_proj", {"other": 1.0}))
    page = visitor.get(f"/jobs/{job_id}").text
    assert page.count("<circle") == 27 * 3
    assert "self_attn" not in page


def test_without_postgres_the_page_says_to_try_again(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "list_page", Mock(side_effect=OperationalError("", {}, Exception())))
    response = visitor.get("/jobs")
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert "Not at the moment" in shown(response)
