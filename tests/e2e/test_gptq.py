"""The demo's GPTQ recipe through the command that users type: measured, verified, and served as a folder that loads."""

import json
from pathlib import Path
from typing import Any

import pytest

from demo.expected import LOSS_MAX, PERPLEXITY, TOLERANCE
from pipeline.provenance import CARD_NAME, PROVENANCE_NAME, REPORT_NAME
from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import Up

pytestmark = pytest.mark.slow

RECIPE = "gptq:4bit-g128"
CHECKS = ["tensors", "tokenizer", "loads", "divergence", "generation"]


@pytest.fixture(scope="module")
def finished(up: Up) -> dict[str, Any]:
    answer = up.cli("submit", TINY_LLAMA, RECIPE, "--wait", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (job,) = json.loads(answer.stdout)["data"]
    return dict(job)


def test_it_keeps_what_the_model_knows(finished: dict[str, Any]) -> None:
    result = finished["result"]
    assert result["baseline"]["perplexity"] == pytest.approx(PERPLEXITY["baseline"], rel=TOLERANCE)
    for domain, most in LOSS_MAX.items():
        assert result["perplexity"][domain] / result["baseline"]["perplexity"][domain] - 1 <= most
    assert result["size_bytes"] < result["source_size_bytes"] / 2
    assert result["tensor_types"]["gptq4"] == 6 * 7


def test_it_was_verified_before_it_was_judged(up: Up, finished: dict[str, Any]) -> None:
    assert [check["name"] for check in finished["result"]["verification"]] == CHECKS
    assert all(check["passed"] for check in finished["result"]["verification"])
    began = {step["kind"]: step["started_at"] for step in finished["steps"]}
    ended = {step["kind"]: step["finished_at"] for step in finished["steps"]}
    assert ended["quantize"] <= began["verify"] < ended["verify"] <= began["evaluate"]
    shown = up.cli("show", finished["id"]).stdout
    assert all(any(line.startswith(name) and "passed" in line for line in shown.splitlines()) for name in CHECKS)


def test_the_loss_of_each_module_is_kept(up: Up, finished: dict[str, Any]) -> None:
    measured = json.loads(up.cli("metrics", finished["id"], "--json").stdout)["data"]
    assert len({(metric["layer"], metric["module"]) for metric in measured}) == len(measured) == 6 * 7
    assert all(metric["values"]["loss"] > 0 for metric in measured)


def test_the_download_is_a_model_folder(up: Up, finished: dict[str, Any], tmp_path: Path) -> None:
    answer = up.cli("download", finished["id"], "--to", tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = {path.name: path for path in tmp_path.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= found.keys()
    config = json.loads(found["config.json"].read_text())
    assert config["quantization_config"]["quant_method"] == "gptq"
    described = {name: found.pop(name) for name in (PROVENANCE_NAME, CARD_NAME, REPORT_NAME)}
    assert all(path.stat().st_size for path in described.values())
    assert sum(path.stat().st_size for path in found.values()) == finished["result"]["size_bytes"]


def test_a_group_size_that_does_not_divide_is_refused_at_once(up: Up) -> None:
    answer = up.cli("submit", TINY_LLAMA, "gptq:4bit-g512", "--json")
    assert answer.returncode != 0
    problem = json.loads(answer.stdout)["error"]["problem"]
    assert problem["status"] == 422
    assert problem["errors"][0]["pointer"] == "/recipe/group_size"
    assert "rows of 256 weights" in problem["errors"][0]["detail"]
