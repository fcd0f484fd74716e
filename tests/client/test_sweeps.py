"""Sweeps by the SDK and the command."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from fewbits_client import Client, Problem
from tests.client.fake_api import FakeApi, a_job, a_row, a_sweep, an_estimate, an_open_row, done_frame, event_frame
from tests.client.test_narrow import on_terminal

Fewbits = Callable[..., int]
Captured = pytest.CaptureFixture[str]

QUEUED = [an_open_row("job_1", "gguf:Q8_0", "queued"), an_open_row("job_2", "gguf:Q4_K_M", "queued")]
DONE = [
    a_row("job_1", "gguf:Q8_0", 6_700_000, 1.001),
    a_row("job_2", "gguf:Q4_K_M", 3_900_000, 1.0123),
    a_row("job_3", "gguf:Q4_1", 4_100_000, 1.03, pareto=False, verdict="blocked"),
]
TABLE = [
    "    recipe       status     size    bits  prose         code          agreement      cost  job",
    " *  gguf:Q8_0    succeeded  6.7 MB  5.12  +0.1 (≤ +0.5)  +0.1 (≤ +0.5)  97.0 (≥ 96.0)  0.01  job_1",
    ">*  gguf:Q4_K_M  succeeded  3.9 MB  5.12  +1.2 (≤ +1.6)  +1.2 (≤ +1.6)  97.0 (≥ 96.0)  0.01  job_2",
    "    gguf:Q4_1    blocked    4.1 MB  5.12  +3.0 (≤ +3.4)  +3.0 (≤ +3.4)  97.0 (≥ 96.0)  0.01  job_3",
]


def words(lines: list[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


def page(*data: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(data), "has_more": False}


def test_a_sweep_is_asked_for_once_with_what_was_given(api: FakeApi, client: Client) -> None:
    api.answers("POST", "/v1/sweeps", a_sweep(*QUEUED), 201)
    client.submit_sweep("file:///m", ["gguf", {"method": "gptq"}], windows=8, labels=["a"], idempotency_key="k")
    client.submit_sweep("file:///m", preset="gguf-all", publish_to="file:///published")
    first, second = api.requests("/v1/sweeps")
    recipes = ["gguf", {"method": "gptq"}]
    assert first.body == {"source": "file:///m", "recipes": recipes, "labels": ["a"], "evaluation": {"windows": 8}}
    assert first.headers["idempotency-key"] == '"k"'
    assert second.body == {"source": "file:///m", "preset": "gguf-all", "publish_to": "file:///published"}


def test_a_sweep_that_is_refused_says_which_recipe(api: FakeApi, client: Client) -> None:
    errors = [{"pointer": "/recipes/1/bits", "detail": "too many"}]
    api.refuses("POST", "/v1/sweeps", 422, code="invalid_request", detail="No.", errors=errors)
    with pytest.raises(Problem, match="/recipes/1/bits: too many"):
        client.submit_sweep("file:///m", ["gguf", "gptq:9bit"])


def test_who_waits_for_a_sweep_waits_for_what_is_added_too(api: FakeApi, client: Client) -> None:
    for rows in ([QUEUED[0]], [DONE[0], QUEUED[1]], DONE):
        api.answers("GET", "/v1/sweeps/sweep_1", a_sweep(*rows))
    for job_id in ("job_1", "job_2"):
        api.streams(job_id, done_frame(a_job(job_id)))
    assert client.wait_for_sweep("sweep_1")["status"] == "succeeded"
    assert len(api.requests("/v1/jobs/job_1/events")) == len(api.requests("/v1/jobs/job_2/events")) == 1


def test_submit_says_what_was_made_and_left_out(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("POST", "/v1/sweeps", a_sweep(*QUEUED), 201)
    assert fewbits("sweep", "submit", "file:///m", "--preset", "everything", "--windows", "8", "--priority", "3") == 0
    asked = {"source": "file:///m", "preset": "everything", "priority": 3, "evaluation": {"windows": 8}}
    assert api.seen[0].body == asked
    assert capsys.readouterr().out.splitlines() == [
        "sweep_1 running: 2 queued",
        "warning: awq is left out: it does not fit.",
    ]
    assert fewbits("sweep", "submit", "file:///m", "gguf", '{"method": "gptq"}', "--json") == 0
    assert api.seen[1].body == {"source": "file:///m", "recipes": ["gguf", {"method": "gptq"}]}
    assert json.loads(capsys.readouterr().out)["a_field_of_a_newer_server"] is True


@pytest.mark.parametrize("arguments", [(), ("gguf", "--preset", "gguf-all"), ("--preset", "best")])
def test_recipes_or_one_preset_must_be_named(fewbits: Fewbits, arguments: tuple[str, ...]) -> None:
    assert fewbits("sweep", "submit", "file:///m", *arguments) == 2


def test_show_tells_what_was_measured_and_what_to_ship(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    failed = an_open_row("job_4", "awq", "failed", error={"code": "x", "message": "no\x1b[2J room", "param": None})
    api.answers("GET", "/v1/sweeps/sweep_1", a_sweep(*DONE, failed))
    assert fewbits("sweep", "show", "sweep_1") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = words(out.splitlines())
    assert lines[:4] == ["id sweep_1", "status running", "jobs 3 succeeded, 1 failed", "source file:///models/tiny"]
    for row in words(TABLE):
        assert row in lines
    assert "awq failed - - - - - - job_4" in lines
    assert "awq: no[2J room" in lines
    assert lines[-3:] == [
        "It is the smallest that keeps what was asked for.",
        "Fetch it: fewbits download job_2",
        "cost in EUR: 0.25 of work so far, 0.05 of it for several jobs; 0.30 a month for keeping the results",
    ]


def test_a_sweep_reads_well_in_100_columns(api: FakeApi) -> None:
    ids = [f"job_01m8bw41ygtphg3bbf811dcw5{digit}" for digit in range(3)]
    rows = [{**row, "job": job_id} for row, job_id in zip(DONE, ids, strict=True)]
    api.answers("GET", "/v1/sweeps/sweep_1", a_sweep(*rows))
    lines = on_terminal(api, 100, "sweep", "show", "sweep_1")
    assert max(map(len, lines)) <= 100
    shown = words(lines)
    for row in words(TABLE):
        assert row.rpartition(" ")[0] in shown  # but for the job
    assert any(line.startswith("no room for job: ") for line in shown)


def test_tasks_have_columns_of_their_own(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    solved = {"dataset_a": {"accuracy_drop": an_estimate(0.012, 0.01)}}
    evaluation = {"domains": ["prose"], "windows": 40, "tasks": ["dataset_a"], "task_items": 200}
    row = {**DONE[0], "tasks": solved}
    api.answers("GET", "/v1/sweeps/sweep_1", a_sweep(row, an_open_row("job_2", "awq", "queued"), evaluation=evaluation))
    assert fewbits("sweep", "show", "sweep_1") == 0
    out = capsys.readouterr().out
    assert "+1.2 (≤ +2.2)" in out
    assert "dataset_a: accuracy lost, in points" in out


def test_nothing_measured_and_no_prices_leave_no_gaps(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    api.answers("GET", "/v1/sweeps/sweep_1", a_sweep(*QUEUED, cost=None, recommendation=None))
    assert fewbits("sweep", "show", "sweep_1") == 0
    out = capsys.readouterr().out
    assert "cost" not in out
    assert "gguf:Q8_0 queued - - - - - job_1" in words(out.splitlines())


def test_list_and_cancel(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    listed = a_sweep(*DONE, rows=None, preset="gguf-all")
    api.answers("GET", "/v1/sweeps", page(listed))
    assert fewbits("sweep", "list") == 0
    row = "sweep_1 succeeded 3 succeeded gguf-all 2026-01-01T00:00:00Z file:///models/tiny"
    assert words(capsys.readouterr().out.splitlines())[1] == row
    assert fewbits("sweep", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["data"] == [listed]
    api.answers("POST", "/v1/sweeps/sweep_1/cancel", a_sweep(*DONE, status="cancelled", jobs={"cancelled": 3}))
    assert fewbits("sweep", "cancel", "sweep_1") == 0
    assert capsys.readouterr().out == "sweep_1 cancelled: 3 cancelled\n"
    api.refuses("POST", "/v1/sweeps/sweep_2/cancel", 409, code="conflict", detail="It is over.")
    assert fewbits("sweep", "cancel", "sweep_2") == 5


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 4)])
def test_the_exit_status_says_how_the_jobs_ended(
    api: FakeApi, fewbits: Fewbits, capsys: Captured, status: str, code: int
) -> None:
    over = [DONE[0], {**DONE[1], "status": status}]
    api.answers("POST", "/v1/sweeps/sweep_1/recipes", a_sweep(DONE[0], QUEUED[1]), 201)
    api.answers("GET", "/v1/jobs", page(a_job("job_2", "queued", recipe="gguf:Q4_K_M"), a_job("job_1")))
    api.answers("GET", "/v1/sweeps/sweep_1", a_sweep(*over))
    api.streams("job_2", event_frame(1), done_frame(a_job("job_2", status)))
    assert fewbits("sweep", "extend", "sweep_1", "gguf:Q4_K_M", "--wait") == code
    assert api.seen[0].body == {"recipes": ["gguf:Q4_K_M"]}
    assert "sweep=sweep_1" in api.requests("/v1/jobs")[0].path
    out = words(capsys.readouterr().out.splitlines())
    assert out[0] == "sweep_1 running: 1 succeeded, 1 queued"
    assert "2026-01-01T00:00:01Z job_2 gguf:Q4_K_M quantize started" in out
    assert "It is the smallest that keeps what was asked for." in out


@pytest.mark.parametrize(("verdicts", "code"), [(("passed", "blocked"), 0), (("blocked", "blocked"), 3)])
def test_only_a_gate_that_blocks_all_has_an_exit_status(
    api: FakeApi, fewbits: Fewbits, verdicts: tuple[str, str], code: int
) -> None:
    rows = [{**row, "verdict": verdict} for row, verdict in zip(DONE, verdicts, strict=False)]
    api.answers("GET", "/v1/sweeps/sweep_1", a_sweep(*rows))
    assert fewbits("sweep", "watch", "sweep_1") == code


def test_watch_writes_json_lines_and_at_last_the_sweep(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    for rows in ([DONE[0], QUEUED[1]], DONE):
        api.answers("GET", "/v1/sweeps/sweep_1", a_sweep(*rows))
    api.answers("GET", "/v1/jobs", page(a_job("job_2", "queued")))
    api.streams("job_2", event_frame(1), done_frame(a_job("job_2")))
    assert fewbits("sweep", "watch", "sweep_1", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["object"] for line in lines] == ["job.event", "job", "sweep"]


def test_jobs_are_found_by_their_sweep_and_name_it(api: FakeApi, fewbits: Fewbits, capsys: Captured) -> None:
    job = a_job(sweep="sweep_1")
    api.answers("GET", "/v1/jobs", page(job))
    api.answers("GET", "/v1/jobs/job_1", job)
    assert fewbits("jobs", "--sweep", "sweep_1") == 0
    assert "sweep=sweep_1" in api.seen[0].path
    assert fewbits("show", "job_1") == 0
    assert "sweep       sweep_1" in capsys.readouterr().out.splitlines()
