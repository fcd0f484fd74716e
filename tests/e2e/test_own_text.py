"""A team's own text from the command that uploads it to the result that was made with it."""

import json
from pathlib import Path

import pytest

from engines import calibration
from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import Up

pytestmark = pytest.mark.slow


def test_a_model_is_quantized_by_a_text_that_was_uploaded(up: Up, tmp_path: Path) -> None:
    paragraphs = (calibration.TEXTS / "prose_calibration.txt").read_text(encoding="utf-8").split("\n\n")
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in paragraphs if text.strip()), encoding="utf-8")
    uploaded = up.cli("datasets", "upload", file, "--json")
    assert uploaded.returncode == 0, uploaded.stderr
    text = json.loads(uploaded.stdout)
    assert json.loads(up.cli("datasets", "--json").stdout)["data"] == [text]
    recipe = {"method": "gptq", "calibration_text": text["id"], "calibration_samples": 64}
    answer = up.cli("submit", TINY_LLAMA, json.dumps(recipe), "--wait", "--json", "--domain", "prose", "--windows", "8")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (job,) = json.loads(answer.stdout)["data"]
    looked_at = job["result"]["calibration"]
    assert (looked_at["text"], looked_at["text_sha256"]) == (text["id"], text["sha256"])
    assert (looked_at["samples"], looked_at["tokens"]) == (64, 512)
    assert looked_at["overlap"]["prose"] < 0.01
    assert f"calibration: {text['id']}, 64 samples of 512 tokens" in up.cli("show", job["id"]).stdout
    deleted = up.cli("datasets", "delete", text["id"])
    assert deleted.returncode == 0, deleted.stderr


def test_a_result_is_judged_on_work_of_the_teams_own(up: Up, tmp_path: Path) -> None:
    file = tmp_path / "work.jsonl"
    lines = [{"prompt": f"The number after {n} is", "completion": f" {n + 1}, and then {n + 2}."} for n in range(12)]
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    own = json.loads(up.cli("datasets", "upload", file, "--json").stdout)
    assert (own["kind"], own["documents"]) == ("completion", 12)
    domains = ("--domain", own["id"], "--domain", "summaries", "--windows", "10")
    answer = up.cli("submit", TINY_LLAMA, "gguf:Q4_0", "--wait", "--json", *domains)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (job,) = json.loads(answer.stdout)["data"]
    compared = job["result"]["comparison"]
    assert {*compared} == {own["id"], "summaries"}
    assert [one["items"] for one in compared.values()] == [10, 10]
    assert all(one["kl_divergence"]["value"] > 0 for one in compared.values())
    assert compared[own["id"]]["tokens"] < compared["summaries"]["tokens"]
