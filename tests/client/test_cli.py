import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewbits_client.cli.wording import outcome
from tests.client.fake_api import (
    KEY,
    Exchange,
    FakeApi,
    a_job,
    a_plan,
    an_attempt,
    an_estimate,
    done_frame,
    event_frame,
    progress_frame,
)

MEASURED = "3.9 MB, 5.12 bits per weight, perplexity prose 24.405 (23.686), code 7.667 (7.493)"
Fewbits = Callable[..., int]
Captured = pytest.CaptureFixture[str]


def controls(text: str) -> set[str]:
    return {character for character in text if not character.isprintable() and character != "\n"}


def test_a_recipe_may_be_given_in_full(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    assert fewbits("submit", "file:///m", '{"method": "gptq", "seed": 7}') == 0
    assert api.seen[0].body["recipe"] == {"method": "gptq", "seed": 7}
    assert fewbits("submit", "file:///m", '{"method"') == 2
    assert fewbits("submit", "file:///m", '{"damp_percent": NaN}') == 2
    assert "must be a JSON object" in capsys.readouterr().err


def test_a_plan_shows_what_a_job_would_come_to(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("POST", "/v1/plan", a_plan())
    assert fewbits("plan", "file:///m", "gguf:Q4_K_M", "--windows", "8", "--wait-for-capacity") == 0
    assert api.seen[0].body == {
        "source": "file:///m",
        "recipe": "gguf:Q4_K_M",
        "evaluation": {"windows": 8},
        "wait_for_capacity": True,
    }
    assert capsys.readouterr().out.splitlines() == [
        "gguf:Q4_K_M of file:///m (LlamaForCausalLM, 6 layers, 12.3 MB of bfloat16)",
        "step     pool  memory    GPU memory  scratch disk  time   done before",
        "fetch    cpu   536.9 MB  0 B         0 B           -      yes",
        "convert  cpu   2.0 GB    0 B         13.0 MB       01:05",
        "time: about, on an NVIDIA H100 or, in the pool cpu, on two cores",
        "the result will take about 4.1 MB",
        "done before, if the source has not changed since 2026-01-01T00:00:00Z",
        "warning: Mind the gap.",
    ]


def test_a_plan_that_would_be_refused_ends_with_another_status(
    api: FakeApi, fewbits: Fewbits, capsys: Captured
) -> None:
    refusal = {"code": "no_capacity", "message": "Quantize needs more.", "param": "recipe"}
    api.answers("POST", "/v1/plan", a_plan(model=None, result_bytes=None, refusals=[refusal]))
    assert fewbits("plan", "file:///m", "gguf:Q4_K_M") == 5
    out = capsys.readouterr().out
    assert "cannot be seen from the server: nothing can be forecast" in out
    assert out.splitlines()[-1] == "refused: Quantize needs more."
    assert fewbits("plan", "file:///m", "gguf:Q4_K_M", "--json") == 5
    assert json.loads(capsys.readouterr().out)["data"][0]["refusals"] == [refusal]


def test_submit_and_wait_prints_a_line_a_change_and_no_control_characters(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, tmp_path: Path
) -> None:
    model = tmp_path / "my model"
    model.mkdir()
    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    api.streams("job_1", event_frame(1, "quantize\x1b[31m started\r"), progress_frame(), done_frame(a_job()))

    assert (
        fewbits("submit", str(model), "gguf:Q4_K_M", "--wait", "--windows", "8", "--metadata", "a=b=c", "--label", "x")
        == 0
    )

    out = capsys.readouterr().out
    assert controls(out) == set()
    assert out.splitlines()[:3] == [
        "job_1 gguf:Q4_K_M queued",
        "2026-01-01T00:00:01Z job_1 gguf:Q4_K_M quantize[31m started",
        f"2026-01-01T00:00:13Z job_1 gguf:Q4_K_M succeeded: {MEASURED}",
    ]
    assert api.seen[0].body == {
        "source": model.as_uri(),
        "recipe": "gguf:Q4_K_M",
        "evaluation": {"windows": 8},
        "metadata": {"a": "b=c"},
        "labels": ["x"],
    }


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 4)])
def test_the_exit_status_says_how_the_job_ended(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, status: str, code: int
) -> None:
    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    api.answers("GET", "/v1/jobs/job_1", a_job(status="running"))
    api.streams("job_1", event_frame(1), done_frame(a_job(status=status)))
    assert fewbits("submit", "hf://org/model", "gguf:Q4_K_M", "--wait", "--json") == code
    page = json.loads(capsys.readouterr().out)
    assert [job["status"] for job in page["data"]] == [status]
    assert fewbits("watch", "job_1") == code


def test_watch_writes_json_lines(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("GET", "/v1/jobs/job_1", a_job(status="running"))
    api.streams("job_1", event_frame(1), progress_frame(), done_frame(a_job()))
    assert fewbits("watch", "job_1", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["object"] for line in lines] == ["job.event", "job.progress", "job"]
    assert lines[-1]["a_field_of_a_newer_server"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs",),
        ("show", "job_1"),
        ("logs", "job_1"),
        ("metrics", "job_1"),
        ("attempts", "job_1"),
        ("quotas",),
        ("retry", "job_1"),
        ("methods",),
        ("cancel", "job_1"),
        ("submit", "file:///m", "gguf"),
    ],
)
def test_every_command_writes_one_json_document_and_plain_text(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, arguments: tuple[str, ...]
) -> None:
    job = a_job(status="cancelled") if arguments[0] == "cancel" else a_job()
    piece = {"id": 1, "object": "job.log", "step": "quantize", "attempt": 1, "created_at": "", "text": "a\x1b[2Jb\r\n"}
    metric = {"id": 1, "step": "quantize", "attempt": 1, "layer": 0, "module": "q\x1b[2J", "values": {"loss": 0.5}}
    presets = [{"recipe": "gguf:Q4_K_M", "why": "because"}]
    method = {"name": "gguf", "object": "method", "summary": "s", "pool": "cpu", "format": "gguf", "presets": presets}
    api.answers("GET", "/v1/jobs", {"object": "list", "data": [job], "has_more": False})
    api.answers("GET", "/v1/jobs/job_1", job)
    api.answers("POST", "/v1/jobs/job_1/cancel", job)
    api.answers("GET", "/v1/jobs/job_1/logs", {"object": "list", "data": [piece], "has_more": False})
    api.answers("GET", "/v1/jobs/job_1/metrics", {"object": "list", "data": [metric], "has_more": False})
    api.answers("GET", "/v1/jobs/job_1/attempts", {"object": "list", "data": [an_attempt()], "has_more": False})
    quota = {"object": "quota", "name": "queued_jobs", "used": 1, "maximum": 5}
    api.answers("GET", "/v1/quotas", {"object": "list", "data": [quota], "has_more": False})
    api.answers("POST", "/v1/jobs/job_1/retry", job, 201)
    api.answers("GET", "/v1/methods", {"object": "list", "data": [method], "has_more": False})
    api.answers("POST", "/v1/jobs", job, 201)

    assert fewbits(*arguments, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["object"] in {"list", "job"}
    assert captured.err == ""
    assert fewbits(*arguments) == 0
    plain = capsys.readouterr().out
    assert plain
    assert controls(plain) == set()


def test_jobs_asks_for_further_pages_only_as_needed(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("GET", "/v1/jobs", {"object": "list", "data": [a_job("job_3"), a_job("job_2")], "has_more": True})
    api.answers("GET", "/v1/jobs", {"object": "list", "data": [a_job("job_1")], "has_more": False})
    assert fewbits("jobs", "--json", "--limit", "2", "--status", "succeeded", "--label", "a=b") == 0
    page = json.loads(capsys.readouterr().out)
    assert [job["id"] for job in page["data"]] == ["job_3", "job_2"]
    assert page["has_more"] is True
    assert "after=job_2" in api.seen[1].path
    assert "status=succeeded" in api.seen[1].path
    assert "label=a%3Db" in api.seen[1].path


def test_metrics_are_a_table_of_all_that_was_measured(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    common = {"object": "job.metric", "step": "quantize", "attempt": 1, "created_at": ""}
    first = {"id": 1, "layer": 0, "module": "self_attn.q_proj", "values": {"loss": 0.000123456789}, **common}
    second = {"id": 2, "layer": 1, "module": "mlp.up_proj", "values": {"damp": 0.01}, **common}
    api.answers("GET", "/v1/jobs/job_1/metrics", {"object": "list", "data": [first], "has_more": True})
    api.answers("GET", "/v1/jobs/job_1/metrics", {"object": "list", "data": [second], "has_more": False})
    assert fewbits("metrics", "job_1") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["step", "attempt", "layer", "module", "loss", "damp"],
        ["quantize", "1", "0", "self_attn.q_proj", "0.000123457", "-"],
        ["quantize", "1", "1", "mlp.up_proj", "-", "0.01"],
    ]
    assert "after=1" in api.seen[1].path


def test_show_says_what_a_job_waits_for(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    reason = "Fetch waits: the cpu pool is paused by its operator."
    api.answers("GET", "/v1/jobs/job_1", a_job(status="queued", waits_for=[reason]))
    older = a_job(status="queued")
    del older["waits_for"]
    api.answers("GET", "/v1/jobs/job_1", older)
    assert fewbits("show", "job_1") == 0
    assert f"waits       {reason}\n" in capsys.readouterr().out
    assert fewbits("show", "job_1") == 0  # a server that is older than this client
    assert "waits" not in capsys.readouterr().out


def test_a_benchmark_is_asked_for_by_lists(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    asked = ("--benchmark-context", "512,4096", "--benchmark-batch", "1, 8", "--benchmark-tokens", "32")
    assert fewbits("submit", "file:///m", "gguf:Q8_0", *asked) == 0
    assert api.seen[0].body["benchmark"] == {
        "context_tokens": [512, 4096],
        "batch_sizes": [1, 8],
        "generated_tokens": 32,
    }
    assert fewbits("submit", "file:///m", "gguf:Q8_0", "--benchmark-batch", "many") == 2
    assert "not a list of whole numbers" in capsys.readouterr().err


def test_show_says_how_fast_a_result_is_and_what_serving_takes(
    api: FakeApi, fewbits: Fewbits, capsys: Captured
) -> None:
    job = a_job()
    served = {"context_tokens": 4096, "batch_size": 1, "weight_bytes": 4_000_000, "kv_cache_bytes": 25_165_824}
    spread = {"median": 1200.0, "min": 1100.0, "max": 1300.0}
    point = {
        "context_tokens": 512,
        "batch_size": 8,
        "prompt_tokens_per_second": spread,
        "generation_tokens_per_second": dict.fromkeys(spread, 40.0),
        "time_to_first_token_seconds": {name: value / 10_000 for name, value in spread.items()},
    }
    job["result"] |= {
        "serving_memory": [served],
        "benchmark": {
            "runtime": "llama.cpp 1",
            "hardware": {"device": "cpu", "cpu": "a processor", "gpu": None, "threads": 8},
            "is_serving_speed": True,
            "note": "llama.cpp itself ran it.",
            "load_seconds": 1.5,
            "peak_memory_bytes": 900_000_000,
            "peak_vram_bytes": None,
            "points": [point],
        },
    }
    api.answers("GET", "/v1/jobs/job_1", job)
    assert fewbits("show", "job_1") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "4,096 1 4.0 MB 25.2 MB 29.2 MB" in lines
    assert "512 8 1,200.0 (1,100.0 to 1,300.0) 40.0 120.0 (110.0 to 130.0)" in lines
    assert lines[-3:] == [
        "measured alone on a processor, 8 threads, by llama.cpp 1",
        "llama.cpp itself ran it.",
        "loaded in 1.5 s; took 900.0 MB of memory",
    ]


def test_tasks_are_asked_for_and_shown(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    tasks = ["--task", "dataset_a", "--task", "dataset_b", "--task-items", "50"]
    assert fewbits("submit", "file:///m", "gguf:Q4_K_M", *tasks, "--gate", "accuracy_drop <= 0.02") == 0
    assert api.seen[0].body["evaluation"] == {"tasks": ["dataset_a", "dataset_b"], "task_items": 50}
    found = {
        "items": 50,
        "baseline": {"accuracy": 0.74, "rouge_l": None},
        "accuracy": an_estimate(0.7, 0.05),
        "accuracy_drop": an_estimate(0.04, 0.02),
        "rouge_l": None,
        "rouge_l_drop": None,
    }
    scored = {"baseline": {"accuracy": 0.5, "rouge_l": 0.8}, "rouge_l": an_estimate(0.75, 0.01)}
    job: Any = a_job()
    job["result"]["tasks"] = {"dataset_a": found, "dataset_b": {**found, **scored}}
    api.answers("GET", "/v1/jobs/job_1", job)
    capsys.readouterr()
    assert fewbits("show", "job_1") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "dataset_a accuracy 0.740 0.700 [0.650, 0.750] 0.040 [0.020, 0.060]" in lines
    assert "dataset_b ROUGE-L 0.800 0.750 [0.740, 0.760] -" in lines
    assert "items: 50 of dataset_a, 50 of dataset_b" in lines
    assert outcome(job).endswith(", accuracy dataset_a 0.700 (0.740), dataset_b 0.700 (0.500)")


def test_show_says_where_a_result_goes_and_where_it_is(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    folder = "file:///published/q4"
    api.answers("GET", "/v1/jobs/job_1", a_job(status="running", publish_to=folder))
    api.answers("GET", "/v1/jobs/job_1", a_job(publish_to=folder, published=True))
    api.answers("GET", "/v1/jobs/job_1", a_job())
    shown = []
    for _ in range(3):
        assert fewbits("show", "job_1") == 0
        shown.append(capsys.readouterr().out)
    assert f"publish to  {folder}\n" in shown[0]
    assert f"published   {folder}\n" in shown[1]
    assert "publish" not in shown[2]


def test_attempts_are_a_table_with_each_error_below(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    lost = an_attempt(outcome="lost", error={"code": "worker_lost", "message": "It fell\nsilent.", "param": None})
    runs = an_attempt(number=2, outcome=None, ended_at=None, peak_memory_bytes=None, peak_scratch_bytes=None)
    older = {name: value for name, value in an_attempt(number=3).items() if "forecast" not in name}
    del older["peak_vram_bytes"], older["peak_scratch_bytes"]
    page = {"object": "list", "data": [lost, runs, older], "has_more": False}
    api.answers("GET", "/v1/jobs/job_1/attempts", page)
    assert fewbits("attempts", "job_1") == 0
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "step attempt outcome started (UTC) seconds memory GPU memory scratch disk where",
        "quantize 1 lost 2026-01-01 10:00:00 300.5 5.0 GB of 6.0 GB - 1.0 GB of 2.0 GB node-1 cuda:0",
        "quantize 2 running 2026-01-01 10:00:00 - - of 6.0 GB - - of 2.0 GB node-1 cuda:0",
        "quantize 3 succeeded 2026-01-01 10:00:00 300.5 5.0 GB - - node-1 cuda:0",
        "",
        "quantize, attempt 1: It fell silent.",
    ]
    assert fewbits("attempts", "job_1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == page
    api.answers("GET", "/v1/jobs/job_2/attempts", {**page, "data": []})
    assert fewbits("attempts", "job_2") == 0
    assert capsys.readouterr().err == "nothing of job_2 has been tried yet\n"
    assert fewbits("attempts", "job_3") == 5


def test_quotas_are_a_table(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    quotas = [
        {"object": "quota", "name": "queued_jobs", "used": 3, "maximum": 0},
        {"object": "quota", "name": "running_gpu", "used": 0, "maximum": None},
    ]
    api.answers("GET", "/v1/quotas", {"object": "list", "data": quotas, "has_more": False})
    assert fewbits("quotas") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["quota", "used", "maximum"],
        ["queued_jobs", "3", "0"],
        ["running_gpu", "0", "no", "limit"],
    ]


def test_a_full_quota_is_said_and_not_tried_again(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.refuses("POST", "/v1/jobs", 429, code="quota_exceeded", detail="Your team has 5 queued jobs, and may have 5.")
    assert fewbits("submit", "file:///m", "gguf") == 5
    assert "may have 5" in capsys.readouterr().err
    assert len(api.seen) == 1


def test_what_is_not_said_is_left_to_the_server(api: FakeApi, fewbits: Fewbits) -> None:
    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    assert fewbits("submit", "file:///m", "gguf") == 0
    assert fewbits("submit", "file:///m", "gguf", "--max-attempts", "7", "--wait-for-capacity", "--priority", "0") == 0
    asked = {"source": "file:///m", "recipe": "gguf"}
    assert [seen.body for seen in api.seen] == [
        asked,
        {**asked, "max_attempts": 7, "wait_for_capacity": True, "priority": 0},
    ]


def test_a_destination_is_sent_as_a_url_and_takes_one_result(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    assert fewbits("submit", "file:///m", "gguf", "--publish-to", "out/q4") == 0
    assert fewbits("submit", "file:///m", "gguf", "--publish-to", "file:///published/q4") == 0
    destinations = [seen.body["publish_to"] for seen in api.seen]
    assert destinations == [(tmp_path / "out" / "q4").as_uri(), "file:///published/q4"]
    assert fewbits("submit", "file:///m", "gguf", "gptq", "--publish-to", "out/q4") == 2
    assert "submit each RECIPE by itself" in capsys.readouterr().err
    assert len(api.seen) == 2


def test_the_log_of_one_attempt(api: FakeApi, fewbits: Fewbits) -> None:
    api.answers("GET", "/v1/jobs/job_1/logs", {"object": "list", "data": [], "has_more": False})
    assert fewbits("logs", "job_1", "--step", "quantize", "--attempt", "2") == 0
    assert "step=quantize&attempt=2" in api.seen[0].path


def test_retry_waits_for_the_new_job(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("POST", "/v1/jobs/job_1/retry", a_job("job_2", "queued", retry_of="job_1"), 201)
    api.streams("job_2", done_frame(a_job("job_2", retry_of="job_1", labels=["nightly"])))
    api.answers("GET", "/v1/jobs/job_2", a_job("job_2", retry_of="job_1", labels=["nightly"]))
    assert fewbits("retry", "job_1", "--wait") == 0
    assert capsys.readouterr().out.splitlines()[0] == "job_2 gguf:Q4_K_M queued"
    assert fewbits("retry", "job_1", "--wait", "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "succeeded"
    assert fewbits("show", "job_2") == 0
    assert {"labels      nightly", "retry of    job_1"} <= set(capsys.readouterr().out.splitlines())
    api.refuses("POST", "/v1/jobs/job_3/retry", 409, code="conflict", detail="The job is running.")
    assert fewbits("retry", "job_3") == 5


def test_a_refusal_names_each_field(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    wrong = [{"pointer": "/recipe/type", "detail": "Q9 is no type; choose one of Q8_0, Q4_K_M."}]
    api.refuses("POST", "/v1/jobs", 422, code="invalid_request", detail="The recipe is wrong.", errors=wrong)
    assert fewbits("submit", "file:///m", "gguf:Q8_0", "gguf:Q9", "--wait", "--json") == 5
    captured = capsys.readouterr()
    page = json.loads(captured.out)
    assert [job["id"] for job in page["data"]] == ["job_1"]
    assert page["error"]["problem"]["code"] == "invalid_request"
    assert "gguf:Q9: The recipe is wrong.\n  /recipe/type: Q9 is no type" in captured.err
    assert "submitted before that: job_1" in captured.err


def test_a_server_that_is_not_there(fewbits: Fewbits, capsys: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert fewbits("jobs", "--json", "--url", f"http://127.0.0.1:{port}") == 6
    captured = capsys.readouterr()
    assert "cannot reach http://127.0.0.1:" in captured.err
    assert json.loads(captured.out)["kind"] == "Unreachable"


def test_another_kind_of_server(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.on("GET", "/v1/methods", lambda exchange: exchange.send(200, b"<html>hello", "text/html"))
    assert fewbits("methods") == 6
    assert "does not answer like a fewbits server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("submit", "/no/such/folder", "gguf"), "does not exist on this machine"),
        (("submit", "file:///m"), "RECIPE"),
        (("submit", "file:///m", "gguf", "--windows", "0"), "1<=x<=10000"),
        (("submit", "file:///m", "gguf", "--metadata", "novalue"), "NAME=VALUE"),
        (("submit", "file:///m", "gguf", "--max-attempts", "0"), "x>=1"),
        (("submit", "file:///m", "gguf", "--max-attempts", "many"), "not a valid integer"),
        (("logs", "job_1", "--attempt", "0"), "x>=1"),
        (("attempts", "../jobs"), "is not an id"),
        (("show", "../methods"), "is not an id"),
        (("jobs", "--url", "localhost:8080"), "must begin with http"),
        (("jobs", "--url", ""), "set FEWBITS_URL or give --url"),
        (("jobs", "--api-key", ""), "set FEWBITS_API_KEY or give --api-key"),
    ],
)
def test_a_wrong_command_line_sends_nothing(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, arguments: tuple[str, ...], reason: str
) -> None:
    assert fewbits(*arguments) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert api.seen == []


def test_download_says_where_the_files_are(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    api.answers("GET", "/v1/jobs/job_1/artifacts", {"object": "list", "data": []})
    assert fewbits("download", "job_1", "--to", "out", "--json") == 1
    assert json.loads(capsys.readouterr().out)["data"] == []
    assert list(tmp_path.iterdir()) == []


def start(api: FakeApi, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from fewbits_client.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="latin-1",
        env={**os.environ, "FEWBITS_URL": api.url, "FEWBITS_API_KEY": KEY, "PYTHONIOENCODING": "latin-1"},
    )


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(api: FakeApi) -> None:
    finished = threading.Event()

    def hang(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.piece(event_frame(1, "größer …"))
        finished.wait(30)

    api.answers("POST", "/v1/jobs", a_job(status="queued"), 201)
    api.on("GET", "/v1/jobs/job_1/events", hang)
    with start(api, "submit", "file:///m", "gguf:Q4_K_M", "--wait") as process:
        assert process.stdout
        assert process.stdout.readline() == "job_1 gguf:Q4_K_M queued\n"
        assert r"größer \u2026" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finished.set()
    assert process.returncode == 130
    assert err == "job_1 goes on. Watch it: fewbits watch job_1   Stop it: fewbits cancel job_1\n"
    assert api.requests("/v1/jobs/job_1/cancel") == []


def test_a_reader_that_goes_away_is_no_error(api: FakeApi) -> None:
    closed = threading.Event()

    def later(exchange: Exchange) -> None:
        closed.wait(30)
        page = {"object": "list", "data": [a_job()], "has_more": False}
        exchange.send(200, json.dumps(page).encode())

    api.on("GET", "/v1/jobs", later)
    with start(api, "jobs") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        closed.set()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(("redirection", "code"), [(">&-", 0), (">/dev/full", 1)])
def test_a_stdout_that_takes_nothing_is_no_traceback(
    api: FakeApi, form: list[str], redirection: str, code: int
) -> None:
    api.answers("GET", "/v1/jobs/job_1", a_job())
    program = [sys.executable, "-c", "from fewbits_client.cli import main; main()", "show", "job_1", *form]
    command = ["sh", "-c", f'"$@" {redirection}', "sh", *program]
    environment = os.environ | {"FEWBITS_URL": api.url, "FEWBITS_API_KEY": KEY}
    ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False, timeout=30)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
