"""What a child does to the world outside of its folders: nothing, whatever the engine in it would like to."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.steps import Bench
from tests.engines import conftest

WATCHED = Path(__file__).parent / "watched"
SMALL = {"calibration_samples": 8, "calibration_tokens": 64}
RECIPES: dict[str, dict[str, Any]] = {
    "gguf": {"method": "gguf", "type": "Q4_0"},
    "gguf+imatrix": {"method": "gguf", "type": "Q4_0", "imatrix": True, **SMALL},
    "gptq": {"method": "gptq", **SMALL},
    "awq": {"method": "awq", **SMALL},
    "awq, llm-compressor's": {"method": "awq", "format": "compressed-tensors", **SMALL},
    "int8": {"method": "int8", **SMALL},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_an_engine_asks_no_host_and_writes_nowhere_else(
    name: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(WATCHED), str(Path(conftest.__file__).parents[2])]))
    model = conftest.cut_to_two_layers(tiny, tmp_path / "model")
    ran = Bench(tmp_path, "cpu").run(RECIPES[name], model, {"domains": ["prose"], "windows": 1})
    strayed = {step.output.parent.name: step.output.parent / "strayed" for step in ran.values()}
    assert {step: notes.read_text() for step, notes in strayed.items() if notes.exists()} == {}


def test_the_watch_sees_what_strays(tmp_path: Path) -> None:
    scratch = tmp_path / "child" / "scratch"
    scratch.mkdir(parents=True)
    program = "import socket, pathlib; pathlib.Path(r'%s').write_text('x'); socket.create_connection(('127.0.0.1', 9))"
    environment = {
        "HOME": str(scratch),
        "TRITON_CACHE_DIR": str(tmp_path / "kernels" / "t"),
        "PYTHONPATH": str(WATCHED),
    }
    stray = tmp_path / "stray"
    subprocess.run([sys.executable, "-c", program % stray], env=environment, check=False, capture_output=True)
    notes = (tmp_path / "child" / "strayed").read_text()
    assert f"open {stray}\n" in notes
    assert "('127.0.0.1', 9)" in notes
