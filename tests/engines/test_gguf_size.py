"""Sizes of GGUF files are told from headers alone, as llama-quantize then makes them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from engines import source
from engines.gguf_file import gguf_in, open_gguf
from engines.gguf_plan import planned_types, type_options
from engines.gguf_size import HEADER_BYTES_A_TOKEN
from engines.gguf_types import NEED_IMATRIX, SIXTEEN_BIT_TYPES, STORAGE, GgufType
from engines.model_facts import ModelFacts, TensorGroup
from engines.recipe import Recipe, parse_recipe
from tests.engines import conftest, families, making

pytestmark = pytest.mark.filterwarnings("default")

CLOSE = 0.01
CONVERTED = [name for name in families.SAMPLES if name != "mixtral, as held"]  # which the converter does not know
BITS: Mapping[str, float] = {**{name: storage.bits for name, storage in STORAGE.items()}, "f32": 32.0}
TYPES = [name for name in get_args(GgufType) if name not in SIXTEEN_BIT_TYPES]
LLAMA_3_8B = {"layers": 32, "hidden": 4096, "wide": 14336, "heads": 32, "kv_heads": 8, "vocabulary": 128256}
LLAMA_3_70B = {**LLAMA_3_8B, "layers": 80, "hidden": 8192, "wide": 28672, "heads": 64}
LLAMA_2_7B = {**LLAMA_3_8B, "wide": 11008, "kv_heads": 32, "vocabulary": 32000}
MIXTRAL_8X7B = {**LLAMA_3_8B, "vocabulary": 32000, "experts": 8}


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


@pytest.mark.parametrize("shape", [LLAMA_3_8B, LLAMA_3_70B, LLAMA_2_7B, MIXTRAL_8X7B], ids=["8b", "70b", "7b", "8x7b"])
@pytest.mark.parametrize("has_imatrix", [False, True])
def test_of_large_models_in_every_type(shape: Mapping[str, int], has_imatrix: bool, tmp_path: Path) -> None:
    lossless = hollow(tmp_path / "large.gguf", shape)
    facts = facts_of(shape)
    for file_type in TYPES:
        recipe = recipe_of(file_type, imatrix=has_imatrix or file_type in NEED_IMATRIX)
        expected = size_by_the_tool(lossless, recipe)
        assert told_without_header(facts, recipe) == pytest.approx(expected, rel=CLOSE), file_type


def matrices_of(shape: Mapping[str, int]) -> dict[str, tuple[str, int, int]]:
    """Rows and columns of a layer's matrices by their names in GGUF, with their names in a model's files."""
    hidden, wide = shape["hidden"], shape["wide"]
    of_keys = hidden // shape["heads"] * shape["kv_heads"]
    suffix, place = ("_exps", "experts.*.") if "experts" in shape else ("", "")
    feed_forward = [("ffn_gate", "w1", wide, hidden), ("ffn_down", "w2", hidden, wide), ("ffn_up", "w3", wide, hidden)]
    return {
        "attn_q": ("self_attn.q_proj", hidden, hidden),
        "attn_k": ("self_attn.k_proj", of_keys, hidden),
        "attn_v": ("self_attn.v_proj", of_keys, hidden),
        "attn_output": ("self_attn.o_proj", hidden, hidden),
        **{f"{role}{suffix}": (f"mlp.{place}{name}", rows, columns) for role, name, rows, columns in feed_forward},
    }


def facts_of(shape: Mapping[str, int]) -> ModelFacts:
    layers, hidden, experts = shape["layers"], shape["hidden"], shape.get("experts", 0)
    groups = [
        TensorGroup(f"model.layers.*.{name}.weight", (rows, columns), layers * (experts if "experts" in name else 1))
        for name, rows, columns in matrices_of(shape).values()
    ]
    names = ("model.embed_tokens", "lm_head")
    outside = [TensorGroup(f"{name}.weight", (shape["vocabulary"], hidden), 1) for name in names]
    norms = [TensorGroup("model.layers.*.input_layernorm.weight", (hidden,), 2 * layers)]
    count = sum(group.element_count for group in (*groups, *outside, *norms))
    return ModelFacts(
        architecture="LlamaForCausalLM",
        parameter_count=count,
        weight_bytes=2 * count,
        dtype="bfloat16",
        hidden_size=hidden,
        layer_count=layers,
        vocabulary_size=shape["vocabulary"],
        row_lengths=(hidden, shape["wide"]),
        head_count=shape["heads"],
        kv_head_count=shape["kv_heads"],
        expert_count=experts,
        tensors=(*groups, *outside, *norms),
    )


def hollow(path: Path, shape: Mapping[str, int]) -> Path:
    """Write the header of a large model's file, and behind it nothing that takes room on the disk."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(shape["layers"])
    writer.add_context_length(8192)
    writer.add_embedding_length(shape["hidden"])
    writer.add_feed_forward_length(shape["wide"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    if "experts" in shape:
        writer.add_expert_count(shape["experts"])
        writer.add_expert_used_count(2)

    def add(name: str, *sizes: int) -> None:
        kind = np.float32 if len(sizes) == 1 else np.float16
        writer.add_tensor_info(f"{name}.weight", sizes, np.dtype(kind), math.prod(sizes) * np.dtype(kind).itemsize)

    for name in ("token_embd", "output"):
        add(name, shape["vocabulary"], shape["hidden"])
    for layer in range(shape["layers"]):
        for role, (_, rows, columns) in matrices_of(shape).items():
            add(f"blk.{layer}.{role}", *([shape["experts"]] if role.endswith("_exps") else []), rows, columns)
        for norm in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{norm}", shape["hidden"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    size = sum(info.nbytes for tensors in writer.tensors for info in tensors.values())
    writer.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size + 2**20)
    return path
