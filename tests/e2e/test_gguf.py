"""GGUF with everything that can be chosen: weighed by own text, types by pattern, in a set of files."""

from pathlib import Path
from typing import Any

import pytest

from engines.gguf_file import gguf_in, open_gguf, type_name
from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import Up

pytestmark = pytest.mark.slow

RECIPE: dict[str, Any] = {
    "method": "gguf",
    "type": "Q2_K_S",
    "imatrix": True,
    "tensor_types": {"attn_": "q6_K"},
    "token_embedding_type": "q8_0",
    "split_max_bytes": 3_000_000,
    "pre_tokenizer": "gpt-2",
    "calibration_samples": 32,
    "calibration_tokens": 256,
}
EVALUATION: dict[str, Any] = {"domains": ["prose"], "windows": 2}


@pytest.fixture(scope="module")
def finished(up: Up) -> dict[str, Any]:
    with up.client() as client:
        return dict(client.wait(client.submit(TINY_LLAMA.as_uri(), RECIPE, **EVALUATION)["id"]))


def test_it_is_weighed_mixed_split_and_verified(up: Up, finished: dict[str, Any], tmp_path: Path) -> None:
    assert finished["status"] == "succeeded", finished["error"]
    assert [step["kind"] for step in finished["steps"]][:5] == ["fetch", "convert", "calibrate", "imatrix", "quantize"]
    assert len(finished["result"]["verification"]) == 5
    assert all(check["passed"] for check in finished["result"]["verification"])
    with up.client() as client:
        client.download(finished["id"], tmp_path)
    model = open_gguf(gguf_in(next(tmp_path.rglob("*-00001-of-*.gguf")).parent))
    types = {name: type_name(tensor) for name, tensor in model.matrices().items()}
    assert {kind for name, kind in types.items() if "attn_" in name} == {"q6_K"}
    assert types["token_embd.weight"] == "q8_0"
    assert model.value("quantize.imatrix.file") == "imatrix.gguf"


def test_the_matrix_is_made_once_for_all_types(up: Up, finished: dict[str, Any]) -> None:
    del finished  # has made it
    with up.client() as client:
        other = client.wait(client.submit(TINY_LLAMA.as_uri(), {**RECIPE, "type": "Q3_K_S"}, **EVALUATION)["id"])
    assert other["status"] == "succeeded", other["error"]
    reused = {step["kind"]: step["reused"] for step in other["steps"]}
    assert reused["imatrix"]
    assert not reused["quantize"]
