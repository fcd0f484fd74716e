"""A benchmark from the command to what is shown of it, and to fewbits.json."""

import json
from pathlib import Path

import pytest

from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import Up

pytestmark = pytest.mark.slow


def test_a_result_is_benchmarked_and_says_so_wherever_it_goes(up: Up, tmp_path: Path) -> None:
    measured = ("--benchmark-context", "32,64", "--benchmark-batch", "2", "--benchmark-tokens", "4")
    judged = ("--domain", "prose", "--windows", "1")
    submitted = up.cli("submit", TINY_LLAMA, "gguf:Q8_0", *judged, *measured, "--wait", "--json")
    assert submitted.returncode == 0, submitted.stderr
    (job,) = json.loads(submitted.stdout)["data"]
    with up.client() as client:
        result = client.job(job["id"])["result"]
        client.download(job["id"], tmp_path)
    assert result is not None
    benchmark = result["benchmark"]
    assert benchmark is not None
    assert [(point["context_tokens"], point["batch_size"]) for point in benchmark["points"]] == [(32, 2), (64, 2)]
    shown = up.cli("show", job["id"]).stdout
    assert "measured alone on" in shown
    assert "to serve a context of" in shown
    (path,) = tmp_path.rglob("fewbits.json")
    documented = json.loads(path.read_text())["benchmark"]
    assert documented["points"] == benchmark["points"]
    assert documented["generated_tokens"] == 4
