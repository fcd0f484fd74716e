"""The gguf method: every type, what was really written, progress, and failures of the tool."""

import dataclasses
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from core.errors import DoesNotFit, ToolFailed
from engines import llama_cpp, methods, source
from engines.context import Progress
from engines.gguf_file import open_gguf, type_name
from engines.gguf_plan import planned_types, quantizable
from engines.gguf_types import GgufType
from engines.methods.base import Material
from engines.methods.gguf import GgufParams
from engines.recipe import parse_recipe
from tests.engines import conftest

# What most tensors of tiny-llama-6m become, and bits per weight with the larger types that each mixes in
WRITTEN = {
    "IQ1_S+imatrix": ("iq1_s", 2.35),
    "IQ1_M+imatrix": ("iq1_m", 2.48),
    "IQ2_XXS+imatrix": ("iq2_xxs", 2.7),
    "IQ2_XS+imatrix": ("iq2_xs", 2.89),
    "IQ2_S+imatrix": ("iq2_xs", 3.01),
    "IQ2_M+imatrix": ("iq2_s", 3.19),
    "Q2_K_S+imatrix": ("q2_K", 3.31),
    "IQ3_XXS+imatrix": ("iq3_xxs", 3.45),
    "IQ3_XS+imatrix": ("iq3_xxs", 3.82),
    "IQ3_S": ("iq3_s", 3.98),
    "IQ3_M": ("iq3_s", 4.12),
    "IQ4_XS": ("iq4_xs", 4.66),
    "IQ4_NL": ("iq4_nl", 4.87),
    "Q2_K": ("q2_K", 3.6),
    "Q3_K_S": ("q3_K", 4.0),
    "Q3_K_M": ("q3_K", 4.4),
    "Q3_K_L": ("q3_K", 4.6),
    "Q4_0": ("q4_0", 4.9),
    "Q4_1": ("q4_1", 5.3),
    "Q4_K_S": ("q4_K", 4.9),
    "Q4_K_M": ("q4_K", 5.0),
    "Q5_0": ("q5_0", 5.7),
    "Q5_1": ("q5_1", 6.1),
    "Q5_K_S": ("q5_K", 5.7),
    "Q5_K_M": ("q5_K", 5.8),
    "Q6_K": ("q6_K", 6.6),
    "Q8_0": ("q8_0", 8.5),
    "F16": ("f16", 16.0),
    "BF16": ("bf16", 16.0),
}


def test_every_type_is_tested() -> None:
    assert {name.partition("+")[0] for name in WRITTEN} == set(get_args(GgufType))


# Types below three bits search for seconds.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith(("IQ1", "IQ2", "IQ3")) else [])
        for name in WRITTEN
    ],
)
def test_each_type_is_written_as_it_says(
    name: str, material: Mapping[Material, Path], tiny: Path, make_context: conftest.MakeContext
) -> None:
    reports: list[Progress] = []
    context, recipe = make_context(reports), parse_recipe(f"gguf:{name}")
    facts = recipe.method.quantize(context, material, recipe.params)
    (file,) = context.output.iterdir()
    main_type, bits = WRITTEN[name]
    assert file.name == f"model-{name.partition('+')[0]}.gguf"
    assert facts["size_bytes"] == file.stat().st_size
    assert max(set(facts["tensor_types"]) - {"f32"}, key=facts["tensor_types"].__getitem__) == main_type
    assert facts["bits_per_weight"] == pytest.approx(bits, abs=0.1)
    sizes = [int(tensor.n_bytes) for tensor in open_gguf(file).matrices().values()]
    assert sum(sizes) < recipe.method.result_bytes(source.inspect(tiny), recipe.params) + 1
    assert [progress.done for progress in reports] == list(range(1, 57))
    assert {(progress.total, progress.unit) for progress in reports} == {(56, "tensors")}
    written = {name: type_name(tensor) for name, tensor in open_gguf(file).tensors.items()}
    asked = recipe.parameters
    planned = planned_types(material["gguf"] / "model.gguf", asked["type"], has_imatrix=asked["imatrix"])
    assert written == planned
    assert facts["size_bytes"] < recipe.method.forecast(source.inspect(tiny), recipe.params).scratch_bytes


def test_the_tools_output_is_the_log(
    converted: Path, make_context: conftest.MakeContext, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = parse_recipe("gguf:Q4_0")
    recipe.method.quantize(make_context(), {"gguf": converted.parent}, recipe.params)
    assert "[  56/  56] blk.5.ffn_up.weight" in capfd.readouterr().out


def test_a_broken_file_gives_the_tools_own_words(tmp_path: Path, make_context: conftest.MakeContext) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a GGUF file")
    context = make_context()
    with pytest.raises(ToolFailed, match=r"llama-quantize ended with status 1: .*failed to load model"):
        methods.get("gguf").quantize(context, {"gguf": tmp_path}, GgufParams())
    assert list(context.output.iterdir()) == []


def test_a_full_disk_does_not_fit_and_leaves_nothing(converted: Path, make_context: conftest.MakeContext) -> None:
    context = make_context()
    (context.output / "model-Q8_0.gguf").symlink_to("/dev/full")
    with pytest.raises(DoesNotFit, match="disk is full"):
        methods.get("gguf").quantize(context, {"gguf": converted.parent}, GgufParams(type="Q8_0"))
    assert list(context.output.iterdir()) == []


def test_the_tool_dies_with_whoever_follows_it(converted: Path, make_context: conftest.MakeContext) -> None:
    context = make_context()

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    stopping = dataclasses.replace(context, report=stop)
    with pytest.raises(KeyboardInterrupt):
        methods.get("gguf").quantize(stopping, {"gguf": converted.parent}, GgufParams(type="Q2_K"))
    children = subprocess.run(
        ["ps", "-o", "comm=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
    )
    assert "llama-quantize" not in children.stdout
    assert list(context.output.iterdir()) == []


def test_what_is_never_quantized_is_what_the_tool_leaves(tmp_path: Path, make_context: conftest.MakeContext) -> None:
    """A layer of Mamba has its weights where other models have norms and routers."""
    import gguf
    import numpy as np

    shapes = {
        "token_embd": (512, 256),
        "blk.0.attn_norm": (256,),
        "blk.0.ssm_in": (1024, 256),
        "blk.0.ssm_conv1d": (512, 4),
        "blk.0.ssm_x": (48, 512),
        "blk.0.ssm_dt": (512, 16),
        "blk.0.ssm_out": (256, 512),
    }
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "mamba")
    writer.add_block_count(1)
    writer.add_context_length(1024)
    writer.add_embedding_length(256)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(512)
    writer.add_ssm_state_size(16)
    writer.add_ssm_time_step_rank(16)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # The rows of ssm_dt are 16 long, which no type but f16 stores.
    left = {"blk.0.attn_norm.weight", "blk.0.ssm_conv1d.weight"}
    assert set(quantizable(tmp_path / "model.gguf")) == {f"{name}.weight" for name in shapes} - left
    context = make_context()
    recipe = parse_recipe({"method": "gguf", "type": "Q4_0", "tensor_types": {"ssm_in": "q8_0"}})
    facts = recipe.method.quantize(context, {"gguf": tmp_path}, recipe.params)
    assert facts["tensor_types"]["q8_0"] == 1


def test_a_missing_tool_is_said() -> None:
    with pytest.raises(ToolFailed, match="built without"):
        llama_cpp.tool("llama-nothing")
