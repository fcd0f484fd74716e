"""A gate on a real model: two percent of perplexity let Q8_0 through, and keep Q2_K from everyone."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import Up

pytestmark = pytest.mark.slow

GATE = ["perplexity_ratio <= 1.02", "prose: agreement >= 0.8"]


def judged(up: Up, recipe: str, folder: Path) -> dict[str, Any]:
    with up.client() as client:
        asked = client.submit(TINY_LLAMA.as_uri(), recipe, gate=GATE, windows=20, publish_to=folder.as_uri())
        return dict(client.wait(asked["id"]))


def test_two_percent_pass_q8_0_and_block_q2_k(up: Up) -> None:
    published = {recipe: Path(up.data_dir, "published", f"gated {recipe}") for recipe in ("Q8_0", "Q2_K")}
    good, bad = (judged(up, f"gguf:{recipe}", folder) for recipe, folder in published.items())
    assert (good["status"], good["verdict"], good["published"]) == ("succeeded", "passed", True), good["error"]
    assert (published["Q8_0"] / "fewbits.json").exists()
    assert (bad["status"], bad["verdict"], bad["published"]) == ("succeeded", "blocked", False), bad["error"]
    assert not published["Q2_K"].exists()
    assert good["result"]["looks"] == bad["result"]["looks"] == 1
    for job in (good, bad):  # full precision was scored on four times the windows
        found = job["result"]["comparison"]["prose"]
        assert found["items"] == 20
        ratio = found["perplexity"] / found["baseline_perplexity"]
        assert ratio == pytest.approx(found["perplexity_ratio"]["value"])
        assert job["result"]["baseline"]["perplexity"]["prose"] == found["baseline_perplexity"]
    blocked = {one["short"]: one for one in bad["result"]["gate"] if one["decision"] == "blocked"}
    assert "code: perplexity_ratio <= 1.02" in blocked
    assert blocked["code: perplexity_ratio <= 1.02"]["measured"]["low"] > 1.1
    with up.client() as client:
        assert [artifact["format"] for artifact in client.artifacts(bad["id"])] == ["documents"]
    reused = {step["kind"]: step["reused"] for step in bad["steps"]}
    assert reused["reference"]


def test_the_command_says_that_a_result_is_blocked(up: Up) -> None:
    asked = ("--gate", GATE[0], "--windows", 20, "--gate", GATE[1], "--wait")
    done = up.cli("submit", TINY_LLAMA, "gguf:Q2_K", *map(str, asked))
    assert done.returncode == 3, done.stderr
    assert "blocked, nothing was published: " in done.stdout
    job_id = done.stdout.split()[0]
    shown = up.cli("show", job_id).stdout
    assert "code: perplexity_ratio <= 1.02" in shown
    assert "same token likeliest" in shown
    assert up.cli("submit", TINY_LLAMA, "gguf:Q8_0", *map(str, asked)).returncode == 0
