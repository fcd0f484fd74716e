"""Sizes of GGUF files are told from headers alone, as llama-quantize then makes them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from bench.gpu.shapes import LLAMA_3_8B, LLAMA_3_70B, facts_of
from engines import source
from engines.gguf_file import gguf_in, open_gguf
from engines.gguf_plan import planned_types, type_options
from engines.gguf_size import HEADER_BYTES_A_TOKEN
from engines.gguf_types import NEED_IMATRIX, SIXTEEN_BIT_TYPES, STORAGE, GgufType
from engines.model_facts import ModelFacts
from engines.recipe import Recipe, parse_recipe
from tests.engines import conftest, families, making

pytestmark = pytest.mark.filterwarnings("default")

CLOSE = 0.01
CONVERTED = [name for name in families.SAMPLES if name != "mixtral, as held"]  # which the converter does not know
BITS: Mapping[str, float] = {**{name: storage.bits for name, storage in STORAGE.items()}, "f32": 32.0}
TYPES = [name for name in get_args(GgufType) if name not in SIXTEEN_BIT_TYPES]
# With how many layers.
LARGE = {
    "8b": (LLAMA_3_8B, 32),
    "70b": (LLAMA_3_70B, 80),
    "7b": ({**LLAMA_3_8B, "intermediate_size": 11008, "num_key_value_heads": 32, "vocab_size": 32000}, 32),
    "8x7b": ({**LLAMA_3_8B, "vocab_size": 32000, "num_local_experts": 8}, 32),
}


def recipe_of(file_type: str, **parameters: Any) -> Recipe:
    return parse_recipe({"method": "gguf", "type": file_type, "imatrix": file_type in NEED_IMATRIX, **parameters})


def size_by_the_tool(lossless: Path, recipe: Recipe) -> int:
    """What the types that the tool's dry run names add up to, without a header."""
    params: Any = recipe.params
    options = type_options(params.tensor_types, params.token_embedding_type, params.output_type)
    planned = planned_types(lossless, params.type, list(options), has_imatrix=params.imatrix)
    tensors = open_gguf(lossless).tensors.items()
    return int(sum(math.prod(map(int, tensor.shape)) * BITS[planned[name]] for name, tensor in tensors) / 8)


def told_without_header(facts: ModelFacts, recipe: Recipe) -> int:
    return recipe.method.result_bytes(facts, recipe.params) - HEADER_BYTES_A_TOKEN * facts.vocabulary_size


@pytest.mark.parametrize("sample", CONVERTED)
def test_of_every_family(sample: str, tmp_path: Path, make_context: conftest.MakeContext) -> None:
    folder = tmp_path / "model"
    families.build(folder, families.SAMPLES[sample])
    lossless, facts = gguf_in(making.converted(folder, make_context())), source.inspect(folder)
    for file_type in ("Q4_K_M", "Q2_K", "IQ2_M", "IQ3_XS", "Q8_0"):
        recipe = recipe_of(file_type)
        expected = size_by_the_tool(lossless, recipe)
        assert told_without_header(facts, recipe) == pytest.approx(expected, rel=CLOSE), file_type


def test_of_what_is_asked_for_by_name(tiny: Path, make_context: conftest.MakeContext) -> None:
    lossless, facts = making.converted(tiny, make_context()), source.inspect(tiny)
    for recipe in (
        parse_recipe("gguf:attention-high"),
        recipe_of("Q4_0", tensor_types={r"blk\.[0-2]\.attn_": "q6_K"}, token_embedding_type="q5_1"),
        recipe_of("Q3_K_S", output_type="q8_0"),
        recipe_of("BF16"),
    ):
        context = make_context()
        made = making.quantize(recipe, context, tiny, make_context, lossless)
        assert recipe.method.result_bytes(facts, recipe.params) == pytest.approx(made["size_bytes"], rel=CLOSE)


@pytest.mark.parametrize(("shape", "layers"), LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("has_imatrix", [False, True])
def test_of_large_models_in_every_type(shape: dict[str, int], layers: int, has_imatrix: bool, tmp_path: Path) -> None:
    facts = facts_of(shape, layers)
    lossless = hollow(tmp_path / "large.gguf", facts)
    for file_type in TYPES:
        recipe = recipe_of(file_type, imatrix=has_imatrix or file_type in NEED_IMATRIX)
        expected = size_by_the_tool(lossless, recipe)
        assert told_without_header(facts, recipe) == pytest.approx(expected, rel=CLOSE), file_type


def matrices_of(facts: ModelFacts) -> dict[str, tuple[int, ...]]:
    """Sizes of a layer's matrices by their names in GGUF."""
    hidden, wide = facts.row_lengths
    of_keys = hidden // facts.head_count * facts.kv_head_count
    suffix, experts = ("_exps", (facts.expert_count,)) if facts.expert_count else ("", ())
    return {
        "attn_q": (hidden, hidden),
        "attn_k": (of_keys, hidden),
        "attn_v": (of_keys, hidden),
        "attn_output": (hidden, hidden),
        f"ffn_gate{suffix}": (*experts, wide, hidden),
        f"ffn_down{suffix}": (*experts, hidden, wide),
        f"ffn_up{suffix}": (*experts, wide, hidden),
    }


def hollow(path: Path, facts: ModelFacts) -> Path:
    """Write the header of a large model's file, and behind it nothing that takes room on the disk."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(facts.layer_count)
    writer.add_context_length(8192)
    writer.add_embedding_length(facts.hidden_size)
    writer.add_feed_forward_length(facts.row_lengths[-1])
    writer.add_head_count(facts.head_count)
    writer.add_head_count_kv(facts.kv_head_count)
    writer.add_layer_norm_rms_eps(1e-5)
    if facts.expert_count:
        writer.add_expert_count(facts.expert_count)
        writer.add_expert_used_count(2)

    def add(name: str, *sizes: int) -> None:
        kind = np.float32 if len(sizes) == 1 else np.float16
        writer.add_tensor_info(f"{name}.weight", sizes, np.dtype(kind), math.prod(sizes) * np.dtype(kind).itemsize)

    for name in ("token_embd", "output"):
        add(name, facts.vocabulary_size, facts.hidden_size)
    for layer in range(facts.layer_count):
        for role, sizes in matrices_of(facts).items():
            add(f"blk.{layer}.{role}", *sizes)
        for norm in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{norm}", facts.hidden_size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    size = sum(info.nbytes for tensors in writer.tensors for info in tensors.values())
    writer.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size + 2**20)
    return path
