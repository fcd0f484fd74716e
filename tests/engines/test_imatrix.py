"""The importance matrix: what it is made of, what it says of itself, and what it does for low bits."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import Diverged, InvalidRequest, ModelUnsupported
from engines import calibration, imatrix
from engines.calibration import Calibration, OwnText
from engines.context import Progress
from engines.gguf_file import open_gguf
from engines.imatrix_file import COUNTS, IMATRIX_NAME, SUMS
from engines.llama_cpp import load_model, tokenize
from engines.methods.base import Material
from engines.recipe import parse_recipe
from engines.runtimes import open_runtime
from tests.engines import conftest, making

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def few_samples(tiny: Path, make_context: conftest.MakeContext) -> Path:
    return making.samples_for(Calibration("mixed", 4, 64, 0), tiny, make_context())


def test_every_matrix_of_the_layers_has_an_entry(
    converted: Path, few_samples: Path, make_context: conftest.MakeContext
) -> None:
    reports: list[Progress] = []
    context = make_context(reports)
    facts = imatrix.write_imatrix(dataclasses.replace(context, threads=1), converted.parent, few_samples)
    assert facts == {"chunks": 4, "tokens": 64, "matrices": 42, "entries": 42, "warnings": []}
    assert [(p.done, p.total, p.unit) for p in reports] == [(n, 4, "chunks") for n in range(1, 5)]
    written = open_gguf(context.output / IMATRIX_NAME)
    assert written.value("imatrix.datasets") == ["samples.txt"]
    assert [path.name for path in context.output.iterdir()] == [IMATRIX_NAME]


def test_two_runs_are_the_same_bytes(converted: Path, few_samples: Path, make_context: conftest.MakeContext) -> None:
    folders = [making.imatrix_for(converted.parent, few_samples, make_context()) for _ in range(2)]
    first, second = ((folder / IMATRIX_NAME).read_bytes() for folder in folders)
    assert first == second


@pytest.mark.parametrize("begins", [False, True], ids=["plain", "with a token that begins a text"])
@pytest.mark.parametrize("text", ["prose", "code"])
def test_the_tool_looks_at_the_samples(
    begins: bool, text: Any, tiny_copy: Path, make_context: conftest.MakeContext
) -> None:
    """Its chunks are the samples, moved by some tokens that are lost or won where two samples meet."""
    if begins:
        conftest.add_bos_and_chat_template(tiny_copy)
    folder = making.samples_for(Calibration(text, 64, 256, 0), tiny_copy, make_context())
    rows = calibration.read_samples(folder)
    vocabulary = making.converted(tiny_copy, make_context())
    with load_model(vocabulary / "model.gguf", vocab_only=True) as model:
        ids = tokenize(model, (folder / calibration.TEXT_NAME).read_text(encoding="utf-8"), add_special=True)
    assert abs(len(ids) - 64 * 256) < 16
    ours, theirs = (np.bincount(np.ravel(one), minlength=4096) for one in (np.array(rows), np.array(ids)))
    newline = 64  # one stands for a token of each sample
    assert np.abs(ours - theirs).sum() < 2 * newline + 0.005 * 64 * 256


def test_the_tool_takes_special_tokens_within_samples_for_what_they_are(
    tiny_copy: Path, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    """As a conversation's turns have them, or short documents packed behind each other."""
    conftest.add_bos_and_chat_template(tiny_copy)
    path = tmp_path / "text.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"Document {number} of few words."}) for number in range(2000)))
    context = make_context()
    own = OwnText(path, "jsonl", "d" * 64)
    calibration.write_samples(context.output, tiny_copy, Calibration("own", 16, 256, 0), {}, own)
    folder = conftest.linked(context.output, tmp_path / "samples")
    rows = np.array(calibration.read_samples(folder))
    assert (rows == 0).sum() > 200
    lossless = conftest.linked(making.converted(tiny_copy, make_context()), tmp_path / "lossless")
    context = make_context()
    assert imatrix.write_imatrix(context, lossless, folder)["chunks"] == 16
    sums = open_gguf(context.output / IMATRIX_NAME).tensors["blk.0.attn_q.weight.in_sum2"].data.ravel()
    seen = first_inputs(tiny_copy)[rows.ravel()]
    assert sums == pytest.approx(np.square(seen).sum(axis=0), rel=1e-3)


def first_inputs(model: Path) -> Any:
    """Return what the first layer's attention is given for each token, wherever it stands."""
    from safetensors.torch import load_file

    tensors = load_file(model / "model.safetensors")
    embedded = tensors["model.embed_tokens.weight"].float().numpy()
    scale = np.sqrt(np.square(embedded).mean(axis=1, keepdims=True) + 1e-5)
    return embedded / scale * tensors["model.layers.0.input_layernorm.weight"].float().numpy()


def test_one_sample_is_enough(tiny: Path, tmp_path: Path, make_context: conftest.MakeContext) -> None:
    for count in (1, 2):
        folder = making.samples_for(Calibration("prose", count, 64, 0), tiny, make_context())
        folder = conftest.linked(folder, tmp_path / f"samples-{count}")
        lossless = conftest.linked(making.converted(tiny, make_context()), tmp_path / f"lossless-{count}")
        assert imatrix.write_imatrix(make_context(), lossless, folder)["chunks"] == count


def test_a_model_with_numbers_that_are_not_finite_is_refused(
    material: Mapping[Material, Path], make_context: conftest.MakeContext
) -> None:
    written = open_gguf(material["imatrix"] / IMATRIX_NAME)
    tensors = {name: np.array(tensor.data) for name, tensor in written.tensors.items()}
    spoilt = {**tensors, "blk.3.attn_q.weight.in_sum2": np.full((1, 256), np.nan, dtype=np.float32)}
    folder = rewrite(material["imatrix"], make_context().output, spoilt)
    with pytest.raises(Diverged, match=r"Layer 3, attn_q: the sum of its inputs' squares is nan"):
        imatrix._require_sound(open_gguf(folder / IMATRIX_NAME), {"blk.2.attn_q.weight", "blk.3.attn_q.weight"})


def test_what_no_text_reached_is_said(material: Mapping[Material, Path], make_context: conftest.MakeContext) -> None:
    written = open_gguf(material["imatrix"] / IMATRIX_NAME)
    tensors = {name: np.array(tensor.data) for name, tensor in written.tensors.items()}
    tensors["blk.1.ffn_up.weight.counts"] = np.array([[7], [0], [0]], dtype=np.float32)
    folder = rewrite(material["imatrix"], make_context().output, tensors)
    (missing,) = imatrix._warnings(["blk.0.attn_q.weight"])
    assert "1 matrices have no importance, such as blk.0.attn_q.weight" in missing
    with pytest.raises(Diverged, match=r"Layer 1, ffn_up of expert 1: 0 tokens .* or leave out imatrix"):
        imatrix._require_sound(open_gguf(folder / IMATRIX_NAME), {"blk.1.ffn_up.weight", "blk.2.ffn_up.weight"})


def test_an_expert_that_no_text_reached_is_rounded_as_if_every_column_mattered_alike(
    material: Mapping[Material, Path], make_context: conftest.MakeContext
) -> None:
    """Why such a matrix is refused: the tool takes ones, in types that need an importance matrix, too."""
    written = open_gguf(material["imatrix"] / IMATRIX_NAME)
    tensors = {name: np.array(tensor.data) for name, tensor in written.tensors.items()}
    name = "blk.1.ffn_up.weight"
    made = []
    for sums, count in ((tensors[f"{name}{SUMS}"], 0), (np.full_like(tensors[f"{name}{SUMS}"], 7), 7)):
        given = {**tensors, f"{name}{SUMS}": sums, f"{name}{COUNTS}": np.array([[count]], dtype=np.float32)}
        folder = rewrite(material["imatrix"], make_context().output, given)
        context, recipe = make_context(), parse_recipe("gguf:Q2_K_S+imatrix")
        recipe.method.quantize(context, {**material, "imatrix": folder}, recipe.params)
        made.append((context.output / "model-Q2_K_S.gguf").read_bytes())
    assert made[0] == made[1]


def test_a_type_that_needs_an_entry_says_which_is_missing(
    material: Mapping[Material, Path], make_context: conftest.MakeContext
) -> None:
    written = open_gguf(material["imatrix"] / IMATRIX_NAME)
    tensors = {n: np.array(t.data) for n, t in written.tensors.items() if not n.startswith("blk.4.ffn_gate")}
    folder = rewrite(material["imatrix"], make_context().output, tensors)
    context, recipe = make_context(), parse_recipe("gguf:Q2_K_S+imatrix")
    with pytest.raises(ModelUnsupported, match=r"No calibration text reached blk\.4\.ffn_gate\.weight, and Q2_K_S"):
        recipe.method.quantize(context, {**material, "imatrix": folder}, recipe.params)
    assert list(context.output.iterdir()) == []


def rewrite(source: Path, target: Path, tensors: Mapping[str, Any]) -> Path:
    """Write an importance matrix with other tensors."""
    import gguf

    reader = open_gguf(source / IMATRIX_NAME)
    writer = gguf.GGUFWriter(target / IMATRIX_NAME, "")
    writer.kv_data[0].clear()
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", reader.value("imatrix.datasets"))
    writer.add_uint32("imatrix.chunk_count", reader.value("imatrix.chunk_count"))
    writer.add_uint32("imatrix.chunk_size", reader.value("imatrix.chunk_size"))
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.mark.parametrize("asked", ["IQ1_S", "IQ2_M", "IQ3_XS", "Q2_K_S"])
def test_a_type_that_is_nothing_without_is_refused_without(asked: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(f"add +imatrix, as in gguf:{asked}+imatrix")) as refused:
        parse_recipe(f"gguf:{asked}")
    assert refused.value.param == "recipe.type"
    assert parse_recipe(f"gguf:{asked}+imatrix").short == f"gguf:{asked}+imatrix"


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        (
            {"type": "Q4_K_M", "tensor_types": {"ffn_": "iq2_s"}},
            "tensor_types",
            "iq2_s of ffn_ needs an importance matrix",
        ),
        ({"type": "F16", "imatrix": True}, "imatrix", "F16 keeps every weight: leave out imatrix"),
        ({"type": "BF16", "tensor_types": {"ffn_": "q4_0"}}, "tensor_types", "leave out tensor_types"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        parse_recipe({"method": "gguf", **given})
    assert refused.value.param == f"recipe.{field}"


def test_another_addition_to_a_type_is_not_understood() -> None:
    with pytest.raises(InvalidRequest, match=r"gguf:Q4_K_M\+fast is not understood"):
        parse_recipe("gguf:Q4_K_M+fast")


Perplexity = Callable[[Path], float]


@pytest.fixture
def perplexity(tiny: Path, make_context: conftest.MakeContext) -> Perplexity:
    def judge(folder: Path) -> float:
        context = dataclasses.replace(make_context(), threads=1)
        with open_runtime("gguf", folder, context) as runtime:
            return making.score(runtime, tiny, {"prose": 6}, context)["prose"]

    return judge


@pytest.mark.parametrize("name", ["Q2_K", pytest.param("IQ3_S", marks=pytest.mark.slow)])
def test_it_makes_few_bits_better(
    name: str, material: Mapping[Material, Path], perplexity: Perplexity, make_context: conftest.MakeContext
) -> None:
    found = []
    for short in (f"gguf:{name}", f"gguf:{name}+imatrix"):
        context, recipe = make_context(), parse_recipe(short)
        recipe.method.quantize(context, material, recipe.params)
        found.append(perplexity(context.output))
    without, weighed = found
    assert weighed < 0.98 * without


def test_a_result_names_no_path_and_is_the_same_bytes_again(
    material: Mapping[Material, Path], make_context: conftest.MakeContext
) -> None:
    contexts = [make_context(), make_context()]
    recipe = parse_recipe("gguf:Q2_K_S+imatrix")
    for context in contexts:
        recipe.method.quantize(context, material, recipe.params)
    first, second = (context.output / "model-Q2_K_S.gguf" for context in contexts)
    assert first.read_bytes() == second.read_bytes()
    model = open_gguf(first)
    said = {name: model.value(name) for name in model.fields if name.startswith("quantize.")}
    assert said == {
        "quantize.imatrix.file": "imatrix.gguf",
        "quantize.imatrix.dataset": "samples.txt",
        "quantize.imatrix.entries_count": 42,
        "quantize.imatrix.chunks_count": 32,
    }
    assert str(contexts[0].output.parent).encode() not in first.read_bytes()
