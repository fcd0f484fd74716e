"""What keys and values take, held against what llama.cpp takes for them."""

import dataclasses
import re
from pathlib import Path

import pytest

from engines.kv_cache import kv_cache_bytes, serving_memory
from engines.llama_cpp import run_tool
from engines.model_facts import ModelFacts, TensorGroup
from engines.source import inspect

LLAMA_8B = ModelFacts(
    architecture="LlamaForCausalLM",
    parameter_count=8_030_261_248,
    weight_bytes=16_060_522_496,
    dtype="bfloat16",
    hidden_size=4096,
    layer_count=32,
    vocabulary_size=128_256,
    row_lengths=(4096, 14336),
    position_count=131_072,
    head_count=32,
    kv_head_count=8,
)


@pytest.mark.parametrize("tokens", [512, 2048])
def test_llama_cpp_takes_as_much(tokens: int, tiny: Path, converted: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    options = ["-p", str(tokens), "-n", "0", "-r", "1", "-t", "1", "-v", "--no-warmup"]
    run_tool("llama-bench", ["-m", converted, *options], cwd=tmp_path, on_line=lines.append)
    said = re.search(r"KV buffer size = +([\d.]+) MiB", "".join(lines))
    assert said is not None
    assert kv_cache_bytes(inspect(tiny), tokens, 1) == float(said[1]) * 2**20


def test_it_grows_with_context_and_batch(tiny: Path) -> None:
    facts = inspect(tiny)
    assert kv_cache_bytes(facts, 1, 1) == 2 * 6 * 4 * 64 * 2  # keys and values, layers, heads, their size, float16
    assert kv_cache_bytes(facts, 100, 8) == 800 * kv_cache_bytes(facts, 1, 1)


def test_without_tensors_it_goes_by_the_heads(tiny: Path) -> None:
    """128 KiB a token is what is known of Llama 3 8B."""
    assert kv_cache_bytes(LLAMA_8B, 1, 1) == 128 * 2**10
    facts = inspect(tiny)
    assert kv_cache_bytes(dataclasses.replace(facts, tensors=()), 7, 2) == kv_cache_bytes(facts, 7, 2)


def test_heads_of_a_size_of_their_own_count_by_their_tensors() -> None:
    """As Qwen3's: 8 heads of 128, though the hidden size would make them 64; and images have no part in it."""
    tensors = (
        TensorGroup("model.layers.*.self_attn.k_proj.weight", (1024, 1024), 28),
        TensorGroup("model.layers.*.self_attn.v_proj.weight", (1024, 1024), 28),
        TensorGroup("model.layers.*.self_attn.v_proj.bias", (1024,), 28),
        TensorGroup("model.visual.blocks.*.attn.k_proj.weight", (1024, 1024), 28),
    )
    facts = dataclasses.replace(LLAMA_8B, hidden_size=1024, head_count=16, layer_count=28, tensors=tensors)
    assert kv_cache_bytes(facts, 1, 1) == 2 * 28 * 8 * 128 * 2


def test_latent_attention_keeps_what_keys_and_values_are_made_of() -> None:
    """As DeepSeek V2 Lite: 512 numbers and 64 of rotary position, in each of 27 layers."""
    latent = TensorGroup("model.layers.*.self_attn.kv_a_proj_with_mqa.weight", (576, 2048), 27)
    assert kv_cache_bytes(dataclasses.replace(LLAMA_8B, tensors=(latent,)), 1, 1) == 576 * 27 * 2


def test_serving_memory_is_told_for_what_the_model_can_read(tiny: Path) -> None:
    (only,) = serving_memory(inspect(tiny), 1000)
    assert only == {"context_tokens": 2048, "batch_size": 1, "weight_bytes": 1000, "kv_cache_bytes": 12 * 2**20}
    assert [one["context_tokens"] for one in serving_memory(LLAMA_8B, 1)] == [4096, 32768, 131_072]
    exactly = dataclasses.replace(LLAMA_8B, position_count=4096)
    assert [one["context_tokens"] for one in serving_memory(exactly, 1)] == [4096]
    unknown = dataclasses.replace(LLAMA_8B, position_count=0)
    assert [one["context_tokens"] for one in serving_memory(unknown, 1)] == [4096, 32768]
    assert serving_memory(dataclasses.replace(LLAMA_8B, head_count=0, kv_head_count=0), 1) == []
