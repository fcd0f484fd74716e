"""The gptq method: what is written, read back by an independent reader; progress; what it costs beside rounding."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest, ModelUnsupported
from demo.expected import CLASSIC, LOSS_MAX, PERPLEXITY
from engines import source
from engines.context import Measurement, Progress
from engines.gptq_files import read_packed_facts
from engines.methods.gptq import GptqParams
from engines.recipe import parse_recipe
from tests.engines import conftest, making
from tests.engines.gptq_layout import dequantize

# GPTQModel takes a warning that is raised for a failure, and goes another way then.
pytestmark = pytest.mark.filterwarnings("default")

QUICK = {"method": "gptq", "calibration_samples": 8, "calibration_tokens": 64}


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
    import torch
    from safetensors.torch import load_file

    conftest.add_bos_and_chat_template(tiny_copy)
    model = conftest.cut_to_two_layers(tiny_copy, tiny_copy.parent / "two")
    folder = making.result_of(QUICK, model, make_context)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (model / name).read_bytes()
    originals, stored = (load_file(place / "model.safetensors") for place in (model, folder))
    kept = originals.keys() & stored.keys()
    assert len(kept) == 6
    assert all(torch.equal(stored[name], originals[name]) for name in kept)
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert not list(folder.glob("README*"))
    assert str(make_context().scratch.parent.parent) not in (folder / "config.json").read_text()


@pytest.mark.parametrize(
    ("parameters", "param", "says"),
    [
        ({"static_groups": True}, "recipe", "static_groups needs desc_act"),
        ({"static_groups": True, "desc_act": True, "group_size": -1}, "recipe", "static_groups needs desc_act"),
        ({"mse": 0.5}, "recipe", "mse is 0, or a power from 1 to 4"),
        ({"mse": 5}, "recipe.mse", "less than or equal to 4"),
    ],
    ids=str,
)
def test_what_does_not_belong_together_is_refused(parameters: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        parse_recipe({"method": "gptq", **parameters})
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("parameters", "param", "says"),
    [
        ({"lm_head": True}, "recipe.lm_head", "output head is its embedding"),
        ({"modules": [{"match": ".*", "group_size": 512}]}, "recipe.group_size", "does not divide the rows of"),
        ({"modules": [{"match": ".*q_prj", "bits": 8}]}, "recipe.modules", "No module .* 42, such as model.layers.0"),
        ({"modules": [{"match": ".*down_proj", "group_size": 512}]}, "recipe.group_size", "does not divide"),
        ({"modules": [{"match": ".*q_proj", "bits": 8}]}, "recipe.modules", "servers run them as one"),
        ({"modules": [{"match": ".*up_proj", "skip": True}]}, "recipe.modules", "servers run them as one"),
    ],
    ids=str,
)
def test_what_does_not_go_with_the_model_is_refused(
    parameters: dict[str, Any], param: str, says: str, tiny: Path
) -> None:
    recipe = parse_recipe({"method": "gptq", **parameters})
    with pytest.raises(InvalidRequest, match=says) as refused:
        making.check(recipe, tiny)
    assert refused.value.param == param


def test_rules_may_leave_out_what_does_not_divide(tiny: Path) -> None:
    rules = [{"match": ".*down_proj", "group_size": 256}, {"match": ".*[qkv]_proj", "bits": 8}]
    making.check(parse_recipe({"method": "gptq", "group_size": 256, "modules": rules}), tiny)
    narrow = dict.fromkeys(["model.layers.0.mlp.down_proj", "model.layers.0.mlp.up_proj"], (256, 192))
    wide = {"model.layers.0.mlp.gate_proj": (256, 192), "model.layers.0.self_attn.o_proj": (256, 256)}
    rule = {"match": ".*mlp.*", "skip": True}
    for method in ("gptq", "awq", "int4", "awq:4bit-g128-ct"):
        document = {**parse_recipe(method).document(), "modules": [rule]}
        parse_recipe(document).check_matrices({**narrow, **wide})
        with pytest.raises(InvalidRequest, match="group_size 128 does not divide"):
            parse_recipe(method).check_matrices({**narrow, **wide})


def test_experts_of_a_layer_are_treated_alike() -> None:
    experts = {f"model.layers.0.mlp.experts.{index}.down_proj": (128, 128) for index in range(4)}
    skip_one = {"match": r".*experts\.3\..*", "skip": True}
    for method in ("gptq", "awq", "fp8"):
        with pytest.raises(InvalidRequest, match="all experts of a layer"):
            parse_recipe({"method": method, "modules": [skip_one]}).check_matrices(experts)


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
        pytest.param({"bits": 8, "group_size": -1, "sym": False}, marks=pytest.mark.slow),
        {"static_groups": True, "desc_act": True},
        pytest.param({"mse": 2.4, "true_sequential": False}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_an_independent_reader_of_the_layout_gives_the_same_logits(
    parameters: dict[str, Any], two_layers: Path, make_context: conftest.MakeContext
) -> None:
    folder = making.result_of({**QUICK, **parameters}, two_layers, make_context)
    weights = dequantize(folder)
    assert len(weights) == 14
    making.require_same_logits("gptq", folder, two_layers, weights, make_context)


MIXED = [
    {"match": "lm_head", "bits": 8, "group_size": 32},
    {"match": r".*\.down_proj", "bits": 8, "group_size": -1},
    {"match": r"model\.layers\.1\..*", "bits": 3, "sym": False},
    {"match": r".*\.[qkv]_proj", "bits": 8, "desc_act": True},
    {"match": r".*\.0\.self_attn\.o_proj", "skip": True},
]


@pytest.fixture(scope="module")
def untied(two_layers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, and an output head of its own."""
    folder = Path(shutil.copytree(two_layers, tmp_path_factory.mktemp("untied") / "model"))
    conftest.untie(folder)
    return folder


@pytest.fixture(scope="module")
def mixed(untied: Path, make_context: conftest.MakeContext) -> Path:
    return making.result_of({**QUICK, "lm_head": True, "modules": MIXED}, untied, make_context)


def test_each_module_is_stored_as_its_rule_says(mixed: Path) -> None:
    """By the shapes alone: eight codes of 4 bits, four of 8 in each word, and a row of scales for each group."""
    tensors = source.weight_tensors(mixed, source.ANYWHERE)

    def stored(module: str) -> tuple[int, int]:
        codes, scales = (tensors[f"{module}.{part}"] for part in ("qweight", "scales"))
        columns = tensors[f"{module}.g_idx"].shape[0]
        return codes.shape[0] * 32 // columns, columns // scales.shape[0]

    assert stored("lm_head") == (8, 32)
    assert stored("model.layers.1.mlp.down_proj") == (8, 768)
    assert stored("model.layers.1.self_attn.q_proj") == (3, 128)
    assert stored("model.layers.0.self_attn.q_proj") == (8, 128)
    assert stored("model.layers.0.mlp.up_proj") == (4, 128)
    assert tensors["model.layers.0.self_attn.o_proj.weight"].dtype == "BF16"
    facts = read_packed_facts(mixed)
    assert facts["tensor_types"] == {"bf16": 7, "gptq3": 6, "gptq4": 2, "gptq8": 6}
    assert facts["quantized_modules"] == 14


def test_servers_are_told_of_rules_in_the_order_in_which_they_hold(mixed: Path) -> None:
    told = [json.loads((mixed / name).read_text()) for name in ("config.json", "quantize_config.json")]
    keys = [
        r"-:^(?:.*\.0\.self_attn\.o_proj)$",
        "+:^(?:lm_head)$",
        r"+:^(?:.*\.down_proj)$",
        r"+:^(?:model\.layers\.1\..*)$",
        r"+:^(?:.*\.[qkv]_proj)$",
        "+:^(?:lm_head|embed_out)$",
    ]
    for config in (told[0]["quantization_config"], told[1]):
        assert list(config["dynamic"]) == keys
        assert config["dynamic"][keys[4]] == {"bits": 8, "desc_act": True}
        assert (config["lm_head"], config["quant_method"]) == (True, "gptq")


def test_mixed_bits_and_a_quantized_output_head_give_the_independent_readers_logits(
    mixed: Path, untied: Path, make_context: conftest.MakeContext
) -> None:
    weights = dequantize(mixed)
    assert len(weights) == 14
    making.require_same_logits("gptq", mixed, untied, weights, make_context)


@pytest.mark.slow
def test_static_groups_are_in_order_and_transformers_opens_them(
    two_layers: Path, make_context: conftest.MakeContext
) -> None:
    folder = making.result_of({**QUICK, "desc_act": True, "static_groups": True}, two_layers, make_context)
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["desc_act"] is False
    making.require_opens_in_transformers(folder, two_layers)


@pytest.mark.slow
def test_a_model_that_gptqmodel_cannot_do_is_refused_and_not_tried_again(
    untied: Path, make_context: conftest.MakeContext, tmp_path: Path
) -> None:
    """A model type that it has never heard of."""
    model = Path(shutil.copytree(untied, tmp_path / "model"))
    conftest.edit_json(model / "config.json", model_type="nothing", architectures=["NothingForCausalLM"])
    with pytest.raises(ModelUnsupported, match="GPTQModel cannot quantize this model"):
        making.result_of(QUICK, model, make_context)


@pytest.mark.slow
def test_the_classic_recipe_keeps_what_the_model_knows(tiny: Path, make_context: conftest.MakeContext) -> None:
    found = making.perplexities("gptq", making.result_of(CLASSIC, tiny, make_context), tiny, make_context)
    for domain, most in LOSS_MAX.items():
        assert found[domain] / PERPLEXITY["baseline"][domain] - 1 <= most


@pytest.mark.slow
def test_rounding_to_nearest_costs_more(tiny: Path, make_context: conftest.MakeContext, tmp_path: Path) -> None:
    """At the same bits and groups, each group's scale taken from its largest weight."""
    import torch
    from safetensors.torch import load_file

    quick = {**QUICK, "calibration_samples": 32, "calibration_tokens": 256}
    by_gptq = making.perplexities("gptq", making.result_of(quick, tiny, make_context), tiny, make_context)
    originals = load_file(tiny / "model.safetensors")
    rounded = {name: rounded_to_nearest(w.float()) for name, w in originals.items() if name.endswith("_proj.weight")}
    making.with_weights(tiny, rounded).to(torch.float32).save_pretrained(tmp_path / "rounded")
    by_rounding = making.perplexities("safetensors", tmp_path / "rounded", tiny, make_context)
    assert by_gptq["prose"] < by_rounding["prose"]
    assert by_gptq["code"] < by_rounding["code"]


def rounded_to_nearest(weight: Any, bits: int = 4, group_size: int = 128) -> Any:
    groups = weight.reshape(len(weight), -1, group_size)
    largest_code = 2 ** (bits - 1) - 1
    scales = groups.abs().amax(dim=2, keepdim=True) / largest_code
    return ((groups / scales).round().clamp(-largest_code - 1, largest_code) * scales).reshape(weight.shape)
