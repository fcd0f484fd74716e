"""Small random models of other shapes and kinds, end to end, against llama.cpp's own tool."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from engines import convert
from engines.recipe import parse_recipe
from engines.runtimes import open_runtime
from tests.engines import conftest, making
from tests.engines.families import train_sentencepiece

SMALL = {
    "vocab_size": 4096,
    "num_hidden_layers": 2,
    "intermediate_size": 320,
    "max_position_embeddings": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
# 192 is not divisible by a K-quant's 256, 100 not even by 32
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "untied head, 192 wide": ("Llama", {"hidden_size": 192, "tie_word_embeddings": False}),
    "100 wide": ("Llama", {"hidden_size": 100, "num_attention_heads": 5, "num_key_value_heads": 5}),
    "padded vocabulary": ("Llama", {"hidden_size": 64, "vocab_size": 4200}),
    "qwen2": ("Qwen2", {"hidden_size": 128}),
    "mistral": ("Mistral", {"hidden_size": 256, "sliding_window": None}),
    "sentencepiece": ("Llama", {"hidden_size": 64, "bos_token_id": 1, "eos_token_id": 2}),
}


def _make(folder: Path, kind: str, tiny: Path) -> None:
    import torch
    import transformers

    family, changes = KINDS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SMALL | changes)
    getattr(transformers, f"{family}ForCausalLM")(config).to(torch.bfloat16).save_pretrained(folder)
    if kind == "sentencepiece":
        train_sentencepiece(folder)
    else:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny / name, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_another_shape_goes_all_the_way(
    kind: str,
    tmp_path: Path,
    tiny: Path,
    make_context: conftest.MakeContext,
    tool_perplexity: conftest.ToolPerplexity,
) -> None:
    _make(tmp_path, kind, tiny)
    first, second, recipe = make_context(), make_context(), parse_recipe("gguf:Q4_K_M")
    convert.convert(first, tmp_path)
    facts = recipe.method.quantize(second, {"gguf": first.output}, recipe.params)
    assert sum(facts["tensor_types"].values()) >= 20
    (file,) = second.output.iterdir()
    with open_runtime("gguf", file, make_context()) as runtime:
        ours = making.score(runtime, tmp_path, {"prose": 2}, make_context())["prose"]
    assert ours == pytest.approx(tool_perplexity(file, "prose", 2), rel=1e-3)
    with open_runtime("safetensors", tmp_path, make_context()) as runtime:
        reference = making.score(runtime, tmp_path, {"prose": 2}, make_context())["prose"]
    assert ours == pytest.approx(reference, rel=0.1)
