"""What llm-compressor rounds only by adding one and taking it away is put back; what it has scaled is not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engines.llmcompressor_files import tidy
from tests.engines import conftest

NORM = "model.layers.0.input_layernorm.weight"


def by_one(values: torch.Tensor) -> torch.Tensor:
    return ((1 + values.float()).bfloat16().float() - 1).bfloat16()


@pytest.mark.parametrize(
    ("change", "is_put_back"),
    [
        (by_one, True),
        (lambda own: by_one(own) * torch.linspace(0.75, 1.25, len(own)).bfloat16(), False),
        (lambda own: own + 2**-9, False),
    ],
    ids=["rounded", "small and scaled", "all a little larger"],
)
def test_a_norm(change: Any, is_put_back: bool, tiny_copy: Path, tmp_path: Path) -> None:
    source = conftest.cut_to_two_layers(tiny_copy, tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors[NORM] = 0.03 * torch.rand(len(tensors[NORM]), generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    result = conftest.cut_to_two_layers(tiny_copy, tmp_path / "result")
    changed = change(tensors[NORM])
    assert not torch.equal(changed, tensors[NORM])
    save_file({**tensors, NORM: changed}, result / "model.safetensors", {"format": "pt"})
    (result / "recipe.yaml").touch()
    conftest.edit_json(
        result / "config.json",
        quantization_config={"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}}},
    )
    tidy(result, source, "bfloat16")
    found = load_file(result / "model.safetensors")[NORM]
    assert torch.equal(found, tensors[NORM] if is_put_back else changed)
    assert json.loads((result / "config.json").read_text())["dtype"] == "bfloat16"
