"""The awq method: what is written, read back by an independent reader and by transformers; what it costs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest, ModelUnsupported
from engines import gptqmodel, source
from engines.context import Measurement, Progress
from engines.methods.awq import AwqParams
from engines.recipe import parse_recipe
from tests.engines import conftest, making
from tests.engines.awq_layout import dequantize

# GPTQModel takes a warning that is raised for a failure, and goes another way then.
pytestmark = pytest.mark.filterwarnings("default")

QUICK = {"method": "awq", "calibration_samples": 4, "calibration_tokens": 32}
# A module whose inputs others share, and one that others' scales are moved into.
SKIPPED = [*(f"model.layers.1.self_attn.{part}_proj" for part in "qkv"), "model.layers.0.mlp.down_proj"]


@pytest.fixture(scope="module")
def skipping(two_layers: Path, make_context: conftest.MakeContext) -> Path:
    rules = [{"match": name.replace(".", r"\."), "skip": True} for name in SKIPPED]
    recipe = {**QUICK, "group_size": 64, "zero_point": False, "modules": rules}
    return making.result_of(recipe, two_layers, make_context)


@pytest.mark.parametrize(
    ("short", "parameters"),
    [
        ("awq:4bit-g128", {}),
        ("awq:4bit-g64-sym", {"group_size": 64, "zero_point": False}),
        ("awq:4bit-g32", {"group_size": 32}),
    ],
)
def test_short_forms(short: str, parameters: dict[str, Any]) -> None:
    recipe = parse_recipe(short)
    assert recipe.params == AwqParams(**parameters)
    assert recipe.short == short
    assert parse_recipe(recipe.document()) == recipe


def test_the_bare_name_is_the_preset() -> None:
    assert parse_recipe("awq").short == parse_recipe("awq:4bit").short == "awq:4bit-g128"


@pytest.mark.parametrize("short", ["awq:8bit-g128", "awq:4bit-row", "awq:4bit-g100", "awq:4bit-g128-asym", "awq:x"])
def test_other_short_forms_are_refused(short: str) -> None:
    with pytest.raises(InvalidRequest, match=r"awq:4bit-g128|Input should be"):
        parse_recipe(short)


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"bits": 4}, "recipe.bits"),
        ({"format": "gemv"}, "recipe.format"),
        ({"modules": [{"match": "model", "bits": 8}]}, "recipe.modules.0.bits"),
    ],
    ids=str,
)
def test_what_awq_does_not_have_is_refused(parameters: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_recipe({"method": "awq", **parameters})
    assert refused.value.param == param


def test_sizes_that_do_not_divide_are_refused(tiny: Path) -> None:
    facts, recipe = source.inspect(tiny), parse_recipe("awq:4bit-g128")
    recipe.method.check(facts, recipe.params)
    with pytest.raises(InvalidRequest, match=r"group_size 128 .* rows of 320 weights"):
        recipe.method.check(dataclasses.replace(facts, row_lengths=(320, 768)), recipe.params)
    recipe = parse_recipe("awq:4bit-g32")
    for shape in ((96, 128), (128, 96)):
        with pytest.raises(ModelUnsupported, match=f"multiples of 64, and .*q_proj has {shape[0]} rows of {shape[1]}"):
            recipe.check_matrices({"model.layers.0.self_attn.q_proj": shape})


def test_what_gptqmodel_would_scale_by_the_wrong_neighbour_is_refused(tiny: Path) -> None:
    rule = {"match": r".*\.(gate|up)_proj", "skip": True}
    with pytest.raises(InvalidRequest, match="where what feeds it, up_proj, is left") as refused:
        making.check(parse_recipe({"method": "awq", "modules": [rule]}), tiny)
    assert refused.value.param == "recipe.modules"
    making.check(parse_recipe({"method": "awq", "format": "compressed-tensors", "modules": [rule]}), tiny)
    making.check(parse_recipe({"method": "awq", "modules": [{**rule, "match": r".*\.mlp\..*"}]}), tiny)


@pytest.mark.slow
def test_what_fails_in_a_thread_of_gptqmodel_is_raised_and_does_not_end_the_process(
    two_layers: Path, make_context: conftest.MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, which the portable kernel packs in no thread."""
    load = gptqmodel.load_to_quantize
    in_float32 = lambda folder, kind, config, device, _: load(folder, kind, config, device, "float32")  # noqa: E731
    monkeypatch.setattr(gptqmodel, "load_to_quantize", in_float32)
    with pytest.raises(ModelUnsupported, match=r"only supports .*float16"):
        making.result_of(QUICK, two_layers, make_context)


def test_progress_and_losses_are_reported(two_layers: Path, make_context: conftest.MakeContext) -> None:
    reports: list[Progress] = []
    measured: list[Measurement] = []
    context, recipe = make_context(reports, measured), parse_recipe(QUICK)
    facts = making.quantize(recipe, context, two_layers, make_context)
    done = [progress.done for progress in reports]
    assert done == sorted(done)
    assert (done[-1], reports[-1].total, reports[-1].unit) == (2, 2, "layers")
    assert len({(one.layer, one.module) for one in measured}) == len(measured) == 14
    assert all(one.values["loss"] > 0 for one in measured)
    assert facts["tensor_types"] == {"awq4": 14, "bf16": 6}
    assert facts["size_bytes"] < recipe.method.forecast(source.inspect(two_layers), recipe.params).scratch_bytes
    making.require_same_logits("awq", context.output, two_layers, whole(context.output), make_context)


def whole(folder: Path) -> dict[str, Any]:
    """Return the packed layers by the independent reader, and the norms that AWQ changed, by their modules' names."""
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    kept = {
        name.removesuffix(".weight"): weight.float().numpy()
        for name, weight in stored.items()
        if name.endswith(".weight")
    }
    return {**kept, **dequantize(folder)}


def test_with_scales_around_zero_and_skipped_modules_the_independent_reader_gives_the_same_logits(
    skipping: Path, two_layers: Path, make_context: conftest.MakeContext
) -> None:
    weights = whole(skipping)
    assert len(dequantize(skipping)) == 10
    making.require_same_logits("awq", skipping, two_layers, weights, make_context)


def test_it_says_what_autoawq_said(skipping: Path) -> None:
    config = json.loads((skipping / "config.json").read_text())
    told = config["quantization_config"]
    expected = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": False, "version": "gemm"}
    assert {name: told[name] for name in expected} == expected
    assert sorted(told["modules_to_not_convert"]) == sorted(SKIPPED)
    assert config["dtype"] == "bfloat16"
    types = {tensor.dtype for tensor in source.weight_tensors(skipping, source.ANYWHERE).values()}
    assert types == {"I32", "F16", "BF16"}


@pytest.mark.slow
def test_transformers_opens_it_by_itself(skipping: Path, two_layers: Path) -> None:
    making.require_opens_in_transformers(skipping, two_layers)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_costs_about_what_gptq_does(tiny: Path, make_context: conftest.MakeContext) -> None:
    sample = {"calibration_samples": 32, "calibration_tokens": 256}
    awq, gptq = (
        making.perplexities(name, making.result_of({"method": name, **sample}, tiny, make_context), tiny, make_context)
        for name in ("awq", "gptq")
    )
    assert all(awq[domain] / gptq[domain] - 1 < 0.02 for domain in ("prose", "code"))
