"""fp8, int8 and int4: what is written, read back by an independent reader; progress; what it costs; what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest
from engines import source
from engines.context import Measurement, Progress
from engines.recipe import parse_recipe
from engines.runtimes import open_runtime
from tests.engines import compressed_layout, conftest, making
from tests.engines.making import with_weights

pytestmark = pytest.mark.filterwarnings("default")  # the library's own, of many kinds

SAMPLES = {"calibration_samples": 10, "calibration_tokens": 64}
AWQ = {"method": "awq", "format": "compressed-tensors", **SAMPLES}
RECIPES: dict[str, dict[str, Any]] = {
    "fp8": {"method": "fp8"},
    "fp8:static": {"method": "fp8", "activations": "static", **SAMPLES},
    "int8:w8a8": {"method": "int8", **SAMPLES},
    "int8:w8a16": {"method": "int8", "scheme": "w8a16", **SAMPLES},
    "int8:w8a16-g64": {"method": "int8", "scheme": "w8a16", "group_size": 64, **SAMPLES},
    "int4:w4a16-g128": {"method": "int4", **SAMPLES},
    "int4:w4a16-row": {"method": "int4", "group_size": -1, "actorder": "none", **SAMPLES},
    "int4:w4a16-g32-asym": {"method": "int4", "group_size": 32, "symmetric": False, **SAMPLES},
    "awq:4bit-g128-ct": AWQ,
    "awq:4bit-g32-sym-ct": {**AWQ, "group_size": 32, "zero_point": False},
}
MODULES = [*(f"self_attn.{name}_proj" for name in "qkvo"), *(f"mlp.{name}_proj" for name in ("gate", "up", "down"))]


def skip(pattern: str) -> dict[str, Any]:
    return {"match": pattern, "skip": True}


def quantize(recipe: dict[str, Any] | str, model: Path, make_context: conftest.MakeContext) -> Path:
    parsed, context = parse_recipe(recipe), make_context()
    making.quantize(parsed, context, model, make_context)
    return conftest.linked(context.output, context.scratch / "result")


@pytest.fixture(scope="module")
def results(two_layers: Path, make_context: conftest.MakeContext) -> dict[str, Path]:
    return {short: quantize(recipe, two_layers, make_context) for short, recipe in RECIPES.items()}


@pytest.mark.parametrize("short", RECIPES)
def test_short_forms(short: str) -> None:
    assert parse_recipe(RECIPES[short]).short == parse_recipe(short).short == short
    unlike = RECIPES[short].keys() - {"method", "actorder", *SAMPLES}
    assert all(parse_recipe(short).parameters[name] == RECIPES[short][name] for name in unlike)


@pytest.mark.parametrize(("bare", "short"), [("fp8", "fp8"), ("int8", "int8:w8a8"), ("int4", "int4:w4a16-g128")])
def test_the_bare_name_is_the_default(bare: str, short: str) -> None:
    assert parse_recipe(bare).short == short
    assert parse_recipe(parse_recipe(bare).short) == parse_recipe(bare)


@pytest.mark.parametrize(
    "short", ["fp8:e5m2", "int8:w4a16", "int8:w8a16-g100", "int8:w8a8-g128", "int4:4bit", "int4:w4a16-g٣"]
)
def test_other_short_forms_are_refused(short: str) -> None:
    with pytest.raises(InvalidRequest, match=r"is not understood|Input should be|one scale a row"):
        parse_recipe(short)


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="is no regular expression") as refused:
        parse_recipe({"method": "fp8", "modules": [skip("*down_proj")]})
    assert refused.value.param == "recipe.modules.0.match"


def test_a_group_size_that_does_not_divide_is_refused_with_the_row(tiny: Path) -> None:
    recipe = parse_recipe("int4:w4a16-g128")
    facts = dataclasses.replace(source.inspect(tiny), row_lengths=(192, 256))
    with pytest.raises(InvalidRequest, match=r"group_size 128 .* rows of 192 weights") as refused:
        recipe.method.check(facts, recipe.params)
    assert refused.value.param == "recipe.group_size"


@pytest.mark.parametrize("short", ["int4:w4a16-row", "int8:w8a16"])
def test_rows_that_do_not_fill_words_are_refused(short: str, tiny: Path) -> None:
    recipe = parse_recipe(short)
    with pytest.raises(InvalidRequest, match="rows of 250 weights"):
        recipe.method.check(dataclasses.replace(source.inspect(tiny), row_lengths=(250, 256)), recipe.params)


@pytest.mark.parametrize("short", ["fp8", "fp8:static", "int8:w8a8"])
def test_a_byte_for_each_code_takes_any_row(short: str, tiny: Path) -> None:
    recipe = parse_recipe(short)
    recipe.method.check(dataclasses.replace(source.inspect(tiny), row_lengths=(250, 256)), recipe.params)


def test_only_what_looks_at_text_asks_for_it() -> None:
    asked = {short: set(recipe.method.material(recipe.params)) for short in RECIPES for recipe in [parse_recipe(short)]}
    assert asked.pop("fp8") == {"snapshot"}
    assert all(material == {"snapshot", "samples"} for material in asked.values())


@pytest.mark.parametrize(
    ("short", "passes", "types"),
    [
        ("fp8", 1, {"bf16": 6, "fp8": 14}),
        ("int8:w8a8", 2, {"bf16": 6, "int8": 14}),
        ("int4:w4a16-g128", 1, {"bf16": 6, "int4": 14}),
    ],
)
def test_progress_and_losses_come_as_it_goes(
    short: str, passes: int, types: dict[str, int], two_layers: Path, make_context: conftest.MakeContext
) -> None:
    reports: list[Progress] = []
    measured: list[Measurement] = []
    context, recipe = make_context(reports, measured), parse_recipe(RECIPES[short])
    facts = making.quantize(recipe, context, two_layers, make_context)
    done = [progress.done for progress in reports]
    assert done == sorted(done)
    assert len(done) >= 2 * passes
    assert (done[-1], reports[-1].total, reports[-1].unit) == (2, 2, "layers")
    assert sorted((one.layer, one.module) for one in measured) == sorted(
        (layer, module) for layer in (0, 1) for module in MODULES
    )
    assert all(one.values["weight_error" if short == "fp8" else "loss"] > 0 for one in measured)
    assert facts["tensor_types"] == types
    assert facts["quantized_modules"] == 14
    assert facts["size_bytes"] == sum(path.stat().st_size for path in context.output.iterdir())
    model = source.inspect(two_layers)
    assert facts["size_bytes"] < recipe.method.forecast(model, recipe.params).scratch_bytes
    assert facts["size_bytes"] < recipe.method.result_bytes(model, recipe.params) + 2**20


def test_what_is_not_quantized_is_the_sources_own(tiny_copy: Path, make_context: conftest.MakeContext) -> None:
    import torch
    from safetensors.torch import load_file

    conftest.add_bos_and_chat_template(tiny_copy)
    model = conftest.cut_to_two_layers(tiny_copy, tiny_copy.parent / "two")
    folder = quantize({**RECIPES["int4:w4a16-g128"], "modules": [skip(r".*\.1\.mlp\.down_proj")]}, model, make_context)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (model / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir() if "token" not in path.name) == [
        *("LICENSE",) * (model / "LICENSE").exists(),
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    originals, stored = (load_file(place / "model.safetensors") for place in (model, folder))
    kept = originals.keys() & stored.keys()
    assert "model.layers.1.mlp.down_proj.weight" in kept
    assert len(kept) == 7
    assert all(torch.equal(stored[name], originals[name]) for name in kept)
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert config["quantization_config"]["ignore"] == ["model.layers.1.mlp.down_proj", "lm_head"]
    assert str(make_context().scratch.parent.parent) not in (folder / "config.json").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"modules": [skip("nothing")]}, "is called nothing. It has 14, such as model.layers.0.mlp.down_proj"),
        ({"modules": [skip(".*q_proj")]}, "servers run them as one"),
        ({"lm_head": True}, "output head is its embedding"),
    ],
    ids=str,
)
def test_what_cannot_be_left_out_or_quantized_is_refused(
    changes: dict[str, Any], says: str, two_layers: Path, make_context: conftest.MakeContext
) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        quantize({"method": "fp8", **changes}, two_layers, make_context)
    assert refused.value.param == f"recipe.{next(iter(changes))}"


@pytest.mark.parametrize("short", RECIPES)
def test_an_independent_reader_of_the_layout_gives_the_same_logits(
    short: str, results: dict[str, Path], two_layers: Path, make_context: conftest.MakeContext
) -> None:
    """Weights as the files say, and inputs rounded in numpy as the scheme says."""
    import numpy as np
    import torch

    window = making.first_window(two_layers, "code")
    with open_runtime("compressed-tensors", results[short], make_context()) as runtime:
        of_runtime = runtime.logits(window)
    weights = compressed_layout.dequantize(results[short])
    assert len(weights) == 14
    stored = compressed_layout.read(results[short])
    norms = {name: torch.from_numpy(one.copy()) for name, one in stored.items() if name.endswith("norm.weight")}
    model = with_weights(
        two_layers, {**norms, **{f"{name}.weight": torch.from_numpy(weight) for name, weight in weights.items()}}
    )
    round_inputs = compressed_layout.rounding(results[short])

    def rounded(module: str) -> Any:
        return lambda _, given: (torch.from_numpy(round_inputs(module, given[0][0].numpy()))[None],)

    for name, module in compressed_layout.linear_layers(model).items():
        module.register_forward_pre_hook(rounded(name))
    with torch.inference_mode():
        logits = model(torch.tensor([window.ids])).logits[0, 256:511].numpy()
    assert np.abs(of_runtime - logits).mean() < 1e-3
