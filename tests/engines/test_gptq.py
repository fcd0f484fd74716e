"""The gptq method: what is written, read back by an independent reader; progress; what it costs beside rounding."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from core.errors import InvalidRequest
from demo.expected import CLASSIC, LOSS_MAX, PERPLEXITY
from engines import evaluation, source
from engines.context import Measurement, Progress
from engines.methods.gptq import GptqParams
from engines.recipe import parse_recipe
from engines.runtimes import open_runtime
from tests.engines import conftest, making
from tests.engines.gptq_layout import dequantize

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# GPTQModel takes a warning that is raised for a failure, and goes another way then.
pytestmark = pytest.mark.filterwarnings("default")

QUICK = {"method": "gptq", "calibration_samples": 8, "calibration_tokens": 64}


@pytest.fixture(scope="module")
def two_layers(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two layers of tiny-llama-6m: enough to see how a layer is written."""
    return conftest.cut_to_two_layers(tiny, tmp_path_factory.mktemp("two") / "model")


def quantize(recipe: dict[str, Any] | str, model: Path, make_context: conftest.MakeContext) -> Path:
    parsed, context = parse_recipe(recipe), make_context()
    making.quantize(parsed, context, model, make_context)
    return conftest.linked(context.output, context.scratch / "result")


def perplexities(written: str, model: Path, tokenizer: Path, make_context: conftest.MakeContext) -> dict[str, float]:
    context = make_context()
    with open_runtime(written, model, context) as runtime:  # type: ignore[arg-type]
        scores = evaluation.evaluate(runtime, tokenizer, ["prose", "code"], 40, context.report)
    return {domain: score["perplexity"] for domain, score in scores.items()}


@pytest.mark.parametrize(
    ("short", "parameters"),
    [
        ("gptq:4bit-g128", {}),
        ("gptq:8bit-row", {"bits": 8, "group_size": -1}),
        ("gptq:3bit-g64-desc_act", {"bits": 3, "group_size": 64, "desc_act": True}),
        ("gptq:4bit-g128-desc_act-asym", {"desc_act": True, "sym": False}),
    ],
)
def test_short_forms(short: str, parameters: dict[str, Any]) -> None:
    recipe = parse_recipe(short)
    assert recipe.params == GptqParams(**parameters)
    assert recipe.short == short


def test_the_bare_name_is_the_default() -> None:
    assert parse_recipe("gptq").short == "gptq:4bit-g128"


@pytest.mark.parametrize(
    "short",
    [
        *("gptq:Q4_K_M", "gptq:4bit-g", "gptq:5bit-g128", "gptq:4bit-g100", "gptq:4bit-g128-x"),
        *("gptq:٤bit-g128", f"gptq:{'9' * 5000}bit", f"gptq:4bit-g{'9' * 5000}"),
    ],
)
def test_other_short_forms_are_refused(short: str) -> None:
    with pytest.raises(InvalidRequest, match=r"gptq:4bit-g128|Input should be"):
        parse_recipe(short)


def test_a_group_size_that_does_not_divide_is_refused_with_the_row(tiny: Path) -> None:
    recipe = parse_recipe("gptq:4bit-g512")
    with pytest.raises(InvalidRequest, match=r"group_size 512 .* rows of 256 weights") as refused:
        recipe.method.check(source.inspect(tiny), recipe.params)
    assert refused.value.param == "recipe.group_size"


def test_rows_that_do_not_fill_words_are_refused(tiny: Path) -> None:
    recipe = parse_recipe("gptq:3bit-row")
    with pytest.raises(InvalidRequest, match="rows of 250 weights") as refused:
        recipe.method.check(dataclasses.replace(source.inspect(tiny), row_lengths=(250, 256)), recipe.params)
    assert refused.value.param == "recipe.bits"


def test_whole_rows_always_divide(tiny: Path) -> None:
    recipe = parse_recipe("gptq:4bit-row")
    recipe.method.check(source.inspect(tiny), recipe.params)


def test_progress_and_losses_come_as_it_goes(two_layers: Path, make_context: conftest.MakeContext) -> None:
    reports: list[Progress] = []
    measured: list[Measurement] = []
    context, recipe = make_context(reports, measured), parse_recipe(QUICK)
    facts = making.quantize(recipe, context, two_layers, make_context)
    done = [progress.done for progress in reports]
    assert done == sorted(done)
    assert (done[-1], reports[-1].total, reports[-1].unit) == (2, 2, "layers")
    assert {(one.layer, one.module) for one in measured} == {
        (layer, module)
        for layer in (0, 1)
        for module in (
            *(f"self_attn.{name}_proj" for name in "qkvo"),
            *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
        )
    }
    assert all(one.values["loss"] > 0 and one.values["damp_percent"] == 0.01 for one in measured)
    assert facts["tensor_types"] == {"bf16": 6, "gptq4": 14}
    assert facts["size_bytes"] == sum(path.stat().st_size for path in context.output.iterdir())
    assert facts["size_bytes"] < recipe.method.forecast(source.inspect(two_layers), recipe.params).scratch_bytes


def test_what_is_not_quantized_is_the_sources_own(tiny_copy: Path, make_context: conftest.MakeContext) -> None:
    conftest.add_bos_and_chat_template(tiny_copy)
    model = conftest.cut_to_two_layers(tiny_copy, tiny_copy.parent / "two")
    folder = quantize(QUICK, model, make_context)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (model / name).read_bytes()
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert not list(folder.glob("README*"))
    assert str(make_context().scratch.parent.parent) not in (folder / "config.json").read_text()


@pytest.mark.parametrize(
    "parameters",
    [
        {"sym": True, "desc_act": False},
        {"sym": True, "desc_act": True},
        {"sym": False, "desc_act": False},
        {"sym": False, "desc_act": True},
        pytest.param({"bits": 2, "group_size": 64}, marks=pytest.mark.slow),
        pytest.param({"bits": 3, "sym": False}, marks=pytest.mark.slow),
        pytest.param({"bits": 8, "group_size": -1}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_an_independent_reader_of_the_layout_gives_the_same_logits(
    parameters: dict[str, Any], two_layers: Path, make_context: conftest.MakeContext
) -> None:
    import numpy as np
    import torch

    folder = quantize({**QUICK, **parameters}, two_layers, make_context)
    window = evaluation.read_windows(two_layers, "code", 1)[0]
    with open_runtime("gptq", folder, make_context()) as runtime:
        of_runtime = runtime.logits(window)
    weights = dequantize(folder)
    assert len(weights) == 14
    model = with_weights(two_layers, {f"{name}.weight": torch.from_numpy(weight) for name, weight in weights.items()})
    with torch.inference_mode():
        logits = model(torch.tensor([window])).logits[0, 256:511].numpy()
    np.testing.assert_allclose(of_runtime, logits, atol=2e-3)


@pytest.mark.slow
def test_the_classic_recipe_keeps_what_the_model_knows(tiny: Path, make_context: conftest.MakeContext) -> None:
    found = perplexities("gptq", quantize(CLASSIC, tiny, make_context), tiny, make_context)
    for domain, most in LOSS_MAX.items():
        assert found[domain] / PERPLEXITY["baseline"][domain] - 1 <= most


@pytest.mark.slow
def test_rounding_to_nearest_costs_more(tiny: Path, make_context: conftest.MakeContext, tmp_path: Path) -> None:
    """At the same bits and groups, each group's scale taken from its largest weight."""
    import torch
    from safetensors.torch import load_file

    quick = {**QUICK, "calibration_samples": 32, "calibration_tokens": 256}
    by_gptq = perplexities("gptq", quantize(quick, tiny, make_context), tiny, make_context)
    originals = load_file(tiny / "model.safetensors")
    rounded = {name: rounded_to_nearest(w.float()) for name, w in originals.items() if name.endswith("_proj.weight")}
    with_weights(tiny, rounded).to(torch.float32).save_pretrained(tmp_path / "rounded")
    by_rounding = perplexities("safetensors", tmp_path / "rounded", tiny, make_context)
    assert by_gptq["prose"] < by_rounding["prose"]
    assert by_gptq["code"] < by_rounding["code"]


def with_weights(folder: Path, weights: dict[str, Any]) -> "PreTrainedModel":
    """Return a model in float32, some of whose weights are others."""
    import torch
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    missing = model.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    return model


def rounded_to_nearest(weight: Any, bits: int = 4, group_size: int = 128) -> Any:
    groups = weight.reshape(len(weight), -1, group_size)
    largest_code = 2 ** (bits - 1) - 1
    scales = groups.abs().amax(dim=2, keepdim=True) / largest_code
    return ((groups / scales).round().clamp(-largest_code - 1, largest_code) * scales).reshape(weight.shape)
