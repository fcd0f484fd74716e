"""Verification of compressed-tensors: sound results of every kind pass, and each planted fault is caught."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines import verification
from engines.probe import Answers
from engines.recipe import parse_recipe
from engines.verification import compressed_tensors
from engines.verification.subject import Fault, Subject
from tests.engines import conftest, making
from tests.engines.damage import edit, shuffle, tell

pytestmark = pytest.mark.filterwarnings("default")  # the library's own, of many kinds

SAMPLES = {"calibration_samples": 10, "calibration_tokens": 64}
IGNORED = r"model\.layers\.1\.mlp\.(gate|up)_proj"
RECIPES: dict[str, dict[str, Any]] = {
    "fp8": {"method": "fp8"},
    "fp8:static": {"method": "fp8", "activations": "static", **SAMPLES},
    "int8:w8a8": {"method": "int8", **SAMPLES},
    "awq": {"method": "awq", "format": "compressed-tensors", **SAMPLES},
    "int4": {"method": "int4", "modules": [{"match": IGNORED, "skip": True}], **SAMPLES},
}
DOWN = "model.layers.0.mlp.down_proj"
NORM = "model.layers.0.input_layernorm.weight"


@pytest.fixture(scope="module")
def results(two_layers: Path, make_context: conftest.MakeContext) -> dict[str, Path]:
    return {name: making.result_of(recipe, two_layers, make_context) for name, recipe in RECIPES.items()}


def subject(name: str, result: Path, two_layers: Path) -> Subject:
    recipe = parse_recipe(RECIPES[name])
    return Subject("compressed-tensors", result, two_layers, None, recipe.method.promises(recipe.params))


@pytest.mark.parametrize("name", RECIPES)
def test_a_sound_result_passes(
    name: str,
    results: dict[str, Path],
    two_layers: Path,
    answers_of_two_layers: Answers,
    make_context: conftest.MakeContext,
) -> None:
    checks = verification.verify(make_context(), subject(name, results[name], two_layers), answers_of_two_layers).checks
    assert [check.name for check in checks] == ["tensors", "tokenizer", "loads", "divergence", "generation"]
    assert all(check.passed for check in checks), checks


def tell_group(part: str, **changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["quantization_config"]["config_groups"]["group_0"][part].update(changes)
        path.write_text(json.dumps(config))

    return damage


FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "codes shuffled": ("int4", shuffle(f"{DOWN}.weight_packed"), f"{DOWN} differs from its original"),
    "scales too large": ("int4", edit(lambda t: t[f"{DOWN}.weight_scale"].mul_(2)), f"{DOWN} differs"),
    "scales not finite": ("int4", edit(lambda t: t[f"{DOWN}.weight_scale"].fill_(float("nan"))), f"{DOWN} differs"),
    "a norm of its own": ("int4", edit(lambda t: t[NORM].mul_(1.5)), f"{NORM} is not quantized, and yet not"),
    "a scale missing": ("fp8", edit(lambda t: t.pop(f"{DOWN}.weight_scale")), "more tensors are missing"),
    "a tensor too many": ("fp8", edit(lambda t: t.update(extra=t[NORM].clone())), "extra and 0 more tensors"),
    "another type": ("fp8", edit(lambda t: t.update({NORM: t[NORM].float()})), f"{NORM} is F32"),
    "codes of others": ("fp8", shuffle(f"{DOWN}.weight"), f"{DOWN} differs from its original"),
    "another strategy": ("fp8", tell_group("weights", strategy="tensor"), "strategy of weights is 'tensor'"),
    "inputs as they are": ("int8:w8a8", tell_group("input_activations", num_bits=4), "num_bits of input_activations"),
    "another layout": ("int8:w8a8", tell(format="pack-quantized"), "format is 'pack-quantized'"),
    "told to be left out": ("int8:w8a8", tell(ignore=[DOWN, "lm_head"]), f"says of {DOWN} that it is not quantized"),
    "not told of": ("int4", tell(ignore=["lm_head"]), "that it is quantized"),
    "a norm doubled": ("int8:w8a8", edit(lambda t: t[NORM].mul_(2)), "scaled, and nothing in the layer makes up"),
    "rows scaled": ("int8:w8a8", edit(lambda t: t[f"{DOWN}.weight_scale"][:64].mul_(2)), f"rows of {DOWN}.weight"),
    "zero points shuffled": ("awq", shuffle(f"{DOWN}.weight_zero_point"), f"{DOWN}.weight differs"),
    "a norm doubled after awq": ("awq", edit(lambda t: t[NORM].mul_(2)), "scaled, and nothing in the layer makes up"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault: str, results: dict[str, Path], two_layers: Path, tmp_path: Path) -> None:
    name, damage, says = FAULTS[fault]
    folder = Path(shutil.copytree(results[name], tmp_path / "result"))
    damage(folder)
    with pytest.raises(Fault) as caught:
        compressed_tensors.check_tensors(subject(name, folder, two_layers))
    assert says in str(caught.value)
