"""The sentinel: what it stops at and how it says so, and that each engine stops where it must, and nowhere else."""

import contextlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import Diverged, ErrorKind, ModelUnsupported
from engines import calibration, gptqmodel_watch, llmcompressor_watch
from engines.calibration import Calibration
from engines.context import Measurement, Progress
from engines.methods.base import CalibratedParams, Material, registered
from engines.recipe import Recipe, parse_recipe, preset_recipe
from engines.sentinel import ALIKE_MODULES, OUTPUT_ERROR, WEIGHT_ERROR, Place, Sentinel
from tests.engines import conftest, damage, families, making, trials

pytestmark = pytest.mark.filterwarnings("default")  # the libraries' own

PLACE = Place(3, "mlp.down_proj")
GPTQ = {"max_output_error": 0.5, "bits": 2, "group_size": 128, "damp_percent": 0.01}

FEW: dict[str, Any] = {"calibration_samples": 8, "calibration_tokens": 64}
# Each engine's each way of hearing of a module.
RECIPES: dict[str, dict[str, Any]] = {
    "gptq": {"method": "gptq", **FEW},
    "int4": {"method": "int4", **FEW},
    "int8 w8a8": {"method": "int8", **FEW},
    "int8 w8a16": {"method": "int8", "scheme": "w8a16", **FEW},
    "awq": {"method": "awq", **FEW},
    "awq as compressed-tensors": {"method": "awq", "format": "compressed-tensors", **FEW},
    "fp8 dynamic": {"method": "fp8"},
    "fp8 static": {"method": "fp8", "activations": "static", **FEW},
}
LOOK_AT_INPUTS = [name for name in RECIPES if not name.startswith("fp8")]


def stopped(act: Callable[[], object]) -> str:
    with pytest.raises(Diverged) as caught:
        act()
    assert caught.value.kind is ErrorKind.REQUEST  # the same would come again
    return caught.value.message


def test_an_error_above_the_bound_names_layer_module_value_bound_and_what_to_try() -> None:
    watching = Sentinel(GPTQ)
    watching.rounded(PLACE, OUTPUT_ERROR, 0.5)
    assert watching.found == {PLACE: {OUTPUT_ERROR: 0.5}}
    message = stopped(lambda: watching.rounded(PLACE, OUTPUT_ERROR, 0.625))
    assert message.startswith("Layer 3, mlp.down_proj: rounded, it loses 0.625 of its outputs' squares")
    assert "max_output_error is 0.5" in message
    for choice in ("calibration_samples", "damp_percent (it is 0.01)", "group_size (it is 128)", "bits (it has 2)"):
        assert choice in message
    assert message.endswith("or max_output_error above 0.625 to take it as it is.")
    assert "a rule in modules that leaves it as it is" in message


def test_what_to_try_fits_the_recipe() -> None:
    watching = Sentinel({"max_output_error": 0.5, "dampening_frac": 0.2, "group_size": 32})
    message = stopped(lambda: watching.rounded(PLACE, OUTPUT_ERROR, 0.6))
    assert not re.search("damp|group_size|bits", message)
    message = stopped(lambda: Sentinel(GPTQ).rounded(PLACE, WEIGHT_ERROR, 0.6))
    assert not re.search("damp|calibration", message)
    assert "group_size" in message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stops(value: float) -> None:
    watching = Sentinel(GPTQ)
    assert str(value) in stopped(lambda: watching.finite(PLACE, "its loss", value))
    assert str(value) in stopped(lambda: watching.rounded(PLACE, OUTPUT_ERROR, value))
    assert "what its inputs come to" in stopped(lambda: watching.inputs(PLACE, value))


def test_inputs_that_are_all_alike_stop_in_their_layer_and_one_odd_module_does_not() -> None:
    watching = Sentinel(GPTQ)
    watching.inputs(Place(0, "q_proj"), 0.9)
    for module in range(10):
        watching.inputs(Place(0, f"odd_{module}"), 0.0)
    for module in range(ALIKE_MODULES - 1):
        watching.inputs(Place(1, f"{module}"), 1e-7)
    message = stopped(lambda: watching.inputs(Place(1, "v_proj"), 1e-7))
    assert message.startswith("Layer 1, v_proj: all inputs")
    assert "1e-07" in message
    assert "calibration_text" in message


def test_an_expert_without_tokens_and_a_hessian_that_stays_indefinite_stop() -> None:
    message = stopped(lambda: Sentinel(GPTQ, "int4").unseen(Place(1, "mlp.experts.3.up_proj")))
    assert "Layer 1, mlp.experts.3.up_proj: 0 tokens" in message
    assert message.endswith("or int4.")
    message = stopped(lambda: Sentinel(GPTQ).indefinite(PLACE, 0.99))
    assert "not positive definite, with 0.99 of its mean" in message
    assert "damp_percent" in message


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_each_module_is_measured(name: str, two_layers: Path, make_context: conftest.MakeContext) -> None:
    measured: list[Measurement] = []
    making.quantize(parse_recipe(RECIPES[name]), make_context(measured=measured), two_layers, make_context)
    judged = [one for one in measured if {OUTPUT_ERROR, WEIGHT_ERROR} & one.values.keys()]
    assert len({(one.layer, one.module) for one in judged}) == 2 * 7
    kind = OUTPUT_ERROR if name in ("gptq", "int4", "int8 w8a8", "int8 w8a16", "awq") else WEIGHT_ERROR
    assert all(0 < one.values[kind] < 0.02 for one in judged)


@pytest.mark.parametrize("name", RECIPES)
def test_a_module_above_the_bound_stops(name: str, two_layers: Path, make_context: conftest.MakeContext) -> None:
    message = stopped_at({**RECIPES[name], "max_output_error": 1e-9}, two_layers, make_context)
    what = r"rounded, it loses .* and max_output_error is 1e-09\."
    assert re.match(rf"Layer 0, (self_attn|mlp)\.\w+_proj: {what}", message)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", RECIPES)
def test_a_weight_that_is_not_finite_stops(
    name: str, value: float, two_layers: Path, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    spoilt = with_tensor(two_layers, tmp_path, "model.layers.1.mlp.up_proj.weight", value)
    message = stopped_at(RECIPES[name], spoilt, make_context)
    # What is fed by it may be heard of first, where all of a layer is looked at before any of it is rounded.
    assert re.match(r"Layer 1, mlp\.\w+_proj: .* is (nan|inf)\.", message)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["ffn_up", "ffn_down"], ids=["plain", "where the importance matrix meets it first"])
def test_a_weight_that_is_not_finite_stops_gguf(
    where: str, value: float, two_layers: Path, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    spoilt = with_tensor(two_layers, tmp_path, "model.layers.1.mlp.up_proj.weight", value)
    recipe = parse_recipe({"method": "gguf", "type": "Q4_0", "imatrix": where == "ffn_down", **FEW})
    message = stopped(lambda: making.quantize(recipe, make_context(), spoilt, make_context))
    assert message.startswith(f"Layer 1, {where}: ")


@pytest.mark.parametrize("name", LOOK_AT_INPUTS)
def test_inputs_that_are_not_finite_stop(
    name: str, two_layers: Path, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    spoilt = with_tensor(two_layers, tmp_path, "model.layers.1.input_layernorm.weight", math.nan)
    assert re.match(r"Layer 1, self_attn\.\w+_proj: .* is nan\.", stopped_at(RECIPES[name], spoilt, make_context))


@pytest.mark.parametrize("name", LOOK_AT_INPUTS)
def test_one_token_over_and_over_stops_by_a_quarter_of_the_layers(
    name: str, tiny: Path, make_context: conftest.MakeContext
) -> None:
    reports: list[Progress] = []
    samples = repeated(make_context)
    message = stopped_at(RECIPES[name], tiny, make_context, samples=samples, reports=reports)
    assert re.match(r"Layer 0, .*: all inputs that the calibration text gives it are alike", message)
    assert max(report.done / report.total for report in reports) <= 0.25


def test_a_text_of_one_token_over_and_over_is_refused_before(tiny: Path, tmp_path: Path) -> None:
    own = calibration.OwnText(tmp_path / "text.txt", "text", "d" * 64)
    own.path.write_text("\n" + " the" * 20_000, encoding="utf-8")
    with pytest.raises(ModelUnsupported, match=r"of the calibration text is one token, ' the', and at most 90%"):
        calibration.write_samples(tmp_path, tiny, Calibration("own", 32, 64, 0), {}, own)


def stopped_at(
    recipe: dict[str, Any],
    model: Path,
    make_context: conftest.MakeContext,
    samples: Path | None = None,
    reports: list[Progress] | None = None,
) -> str:
    """Return why a recipe's work on a model stops; that it has left nothing is seen to."""
    asked, context = parse_recipe(recipe), make_context(reports)
    material = material_of(asked, model, make_context, samples)
    message = stopped(lambda: asked.method.quantize(context, material, asked.params))
    assert list(context.output.iterdir()) == []
    return message


def material_of(
    recipe: Recipe, model: Path, make_context: conftest.MakeContext, samples: Path | None
) -> dict[Material, Path]:
    if samples is None:
        return making.material_of(recipe, model, make_context)
    return {"snapshot": model, "samples": samples}


def with_tensor(source: Path, target: Path, name: str, value: float) -> Path:
    """Copy a model, one number of one tensor of it another."""
    folder = conftest.cut_to_two_layers(source, target / "spoilt")

    def change(tensors: dict[str, Any]) -> None:
        tensors[name].view(-1)[7] = value

    damage.edit(change)(folder)
    return folder


def repeated(make_context: conftest.MakeContext) -> Path:
    """Write samples of one token over and over, which ``calibration.write_samples`` would refuse."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = make_context().output
    save_file({"input_ids": np.full((8, 64), 300, dtype=np.int32)}, folder / calibration.IDS_NAME)
    (folder / calibration.TEXT_NAME).write_text("", encoding="utf-8")
    return folder


BLIND = r"Layer 1, .*expert\w*[ .]3\b.*: 0 tokens of the calibration text reached it"


@pytest.mark.parametrize(
    ("method", "parameters", "what_else"),
    [
        ("gptq", {}, "int4"),
        ("awq", {}, "format compressed-tensors"),
        ("gguf", {"type": "Q4_0", "imatrix": True}, "leave out imatrix"),
    ],
)
def test_an_expert_that_saw_no_token_stops(
    method: str, parameters: dict[str, Any], what_else: str, one_expert_idle: Path
) -> None:
    (message,) = trials.apart(trials.make, method, {**parameters, **FEW}, one_expert_idle, one_expert_idle / method)
    assert re.match(BLIND, message)
    assert what_else in message
    assert "calibration_samples" in message


@pytest.mark.parametrize(("method", "parameters"), [("int4", FEW), ("gguf", {"type": "Q4_0"})])
def test_what_it_says_to_try_works(method: str, parameters: dict[str, Any], one_expert_idle: Path) -> None:
    assert trials.apart(trials.make, method, parameters, one_expert_idle, one_expert_idle / method) == []


@pytest.fixture(scope="module")
def one_expert_idle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture whose second layer asks one expert a token, and never the last: two others always score higher."""
    folder = tmp_path_factory.mktemp("idle")
    trials.apart(families.build, folder / "model", families.SAMPLES["qwen3-moe"])
    conftest.edit_json(folder / "model" / "config.json", num_experts_per_tok=1)

    def change(tensors: dict[str, Any]) -> None:
        router = tensors["model.layers.1.mlp.gate.weight"]
        router[1] = -router[0]
        router[3] = 0

    damage.edit(change)(folder / "model")
    (folder / "answers").mkdir()  # nothing is judged
    return folder


def test_a_hessian_that_is_not_positive_definite_stops_int4(
    two_layers: Path, make_context: conftest.MakeContext
) -> None:
    """32 tokens cannot fill 256 directions, and next to nothing is added."""
    recipe = {"method": "int4", "calibration_samples": 2, "calibration_tokens": 16, "dampening_frac": 1e-12}
    message = stopped_at(recipe, two_layers, make_context)
    assert re.match(r"Layer 0, self_attn\.\w+: the Hessian of its inputs is not positive definite, with 1e-12", message)
    assert "a higher dampening_frac" in message


def test_damping_that_is_raised_far_enough_stops_nothing(two_layers: Path, make_context: conftest.MakeContext) -> None:
    measured: list[Measurement] = []
    recipe = {"method": "gptq", "calibration_samples": 2, "calibration_tokens": 16, "damp_percent": 1e-12}
    making.quantize(parse_recipe(recipe), make_context(measured=measured), two_layers, make_context)
    assert all(one.values["damp_percent"] > 0 for one in measured if one.layer == 0)


def test_a_hessian_that_stays_indefinite_after_damping_is_raised_stops_gptq(
    two_layers: Path, make_context: conftest.MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No inputs have such a Hessian, so that one is put there."""
    from gptqmodel.quantization.gptq import GPTQ

    own = GPTQ.process_batch

    def turned(task: Any, inputs: Any) -> Any:
        tokens, summed, device = own(task, inputs)
        return tokens, -summed, device

    monkeypatch.setattr(GPTQ, "process_batch", turned)
    message = stopped_at(RECIPES["gptq"], two_layers, make_context)
    assert re.match(r"Layer 0, self_attn\.\w+: the Hessian of its inputs is not positive definite, with ", message)
    assert "a higher damp_percent" in message


def test_a_loss_that_is_not_finite_stops_gptq(
    two_layers: Path, make_context: conftest.MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPTQModel would try again without the Hessian, and say nothing."""
    from gptqmodel.quantization.gptq import GPTQ

    own = GPTQ.hessian_inverse

    def spoilt(task: Any, hessian: Any) -> Any:
        factor, damp = own(task, hessian)
        return factor * math.nan, damp

    monkeypatch.setattr(GPTQ, "hessian_inverse", spoilt)
    assert re.match(r"Layer 0, .*: its loss is nan\.", stopped_at(RECIPES["gptq"], two_layers, make_context))


SOME = {"calibration_samples": 16, "calibration_tokens": 128}
# What each method can be asked for that rounds differently, and all presets. Of 2 bits a module loses up to a third.
CLEAN: dict[str, Any] = {
    **{f"gptq {bits}": {"method": "gptq", "bits": bits, **SOME} for bits in (3, 4, 8)},
    "gptq 2, groups of 64": {"method": "gptq", "bits": 2, "group_size": 64, **SOME},
    "gptq 2, rows, in order": {"method": "gptq", "bits": 2, "group_size": -1, "desc_act": True, **SOME},
    "gptq 4, asymmetric": {"method": "gptq", "sym": False, "desc_act": True, "static_groups": True, **SOME},
    **{name: {**recipe, **SOME} for name, recipe in RECIPES.items() if name in LOOK_AT_INPUTS[1:]},
    "int4, asymmetric rows": {"method": "int4", "group_size": -1, "symmetric": False, "actorder": "none", **SOME},
    "awq, symmetric": {"method": "awq", "zero_point": False, "group_size": 32, **SOME},
    "fp8 static": {"method": "fp8", "activations": "static", **SOME},
    "gguf": {"method": "gguf", "type": "Q2_K", "imatrix": True, **SOME},
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", CLEAN)
def test_over_five_clean_seeds_nothing_stops(
    name: str, seed: int, tiny: Path, make_context: conftest.MakeContext
) -> None:
    measured: list[Measurement] = []
    recipe = parse_recipe({**CLEAN[name], "seed": seed})
    making.quantize(recipe, make_context(measured=measured), tiny, make_context)
    errors = [value for one in measured for key, value in one.values.items() if key.endswith("_error")]
    assert len(errors) == (6 * 7 if recipe.method.name != "gguf" else 0)
    assert max(errors, default=0) < 0.4


@pytest.mark.slow
def test_presets_are_among_them(tiny: Path, make_context: conftest.MakeContext) -> None:
    """Those of gguf look at text, if at all, by the same importance matrix; those without text have no seed."""
    tried = [parse_recipe(recipe) for recipe in CLEAN.values()]
    for method in registered().values():
        for preset in method.presets:
            _, params = preset_recipe(method, preset)
            if "samples" in method.material(params) and method.name != "gguf":
                own = {name for name in type(params).model_fields if name not in CalibratedParams.model_fields}
                assert any(
                    one.method is method and all(getattr(one.params, name) == getattr(params, name) for name in own)
                    for one in tried
                ), preset
    making.quantize(parse_recipe("fp8"), make_context(), tiny, make_context)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_what_gptqmodel_writes_is_the_same_unwatched(
    name: str, two_layers: Path, make_context: conftest.MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = weights_of(RECIPES[name], two_layers, make_context)
    monkeypatch.setattr(gptqmodel_watch, "watching", lambda _: contextlib.nullcontext())
    assert weights_of(RECIPES[name], two_layers, make_context) == watched


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int4", "int8 w8a8", "awq as compressed-tensors", "fp8 static"])
def test_what_llm_compressor_writes_is_the_same_unwatched(
    name: str, two_layers: Path, make_context: conftest.MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = weights_of(RECIPES[name], two_layers, make_context)
    for method in ("done", "missed", "nearest", "smoothed", "sums"):
        monkeypatch.setattr(llmcompressor_watch.Watch, method, lambda *_: None)
    monkeypatch.setattr(llmcompressor_watch.Watch, "rounding", lambda _, its_own: its_own)
    assert weights_of(RECIPES[name], two_layers, make_context) == watched


def weights_of(recipe: dict[str, Any], model: Path, make_context: conftest.MakeContext) -> bytes:
    context = make_context()
    making.quantize(parse_recipe(recipe), context, model, make_context)
    return (context.output / "model.safetensors").read_bytes()
