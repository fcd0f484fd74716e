"""The table of families and methods, held: each small model made with each method, for real.

What the table says works must pass verification; what it refuses must be refused with its reason, and must fail if it
is tried all the same.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelUnsupported
from engines import families, source
from engines.methods.base import CalibratedParams, Method, registered
from engines.recipe import Recipe, parse_recipe
from tests.engines import conftest, trials
from tests.engines.families import SAMPLES

# Tests register methods of their own, which are not of the product.
METHODS: Mapping[str, Method] = {
    name: method for name, method in registered().items() if type(method).__module__.startswith("engines.methods.")
}
# Of a column's parameters, what makes it quick, or is not the method's default.
PARAMETERS: Mapping[str, dict[str, Any]] = {
    "gguf": {"type": "Q4_0"},
    "awq as compressed-tensors": {"format": "compressed-tensors"},
}
# What is tried by default: each column, by the kinds that differ most. The rest takes minutes.
SOON = {
    ("gguf", "gemma3"),
    ("gguf", "phi4"),
    ("gguf", "qwen3-moe"),
    ("gguf", "mixtral, as held"),
    ("gptq", "qwen3-moe"),
    ("awq", "gemma3"),
    ("awq as compressed-tensors", "gemma3"),
    ("fp8", "qwen3-moe"),
    ("int8", "phi4"),
    ("int4", "qwen2, tied"),
}


def recipe_of(column: str) -> Recipe:
    method = column.partition(" ")[0]
    looks_at_text = issubclass(METHODS[method].Params, CalibratedParams)
    few = {"calibration_samples": 8, "calibration_tokens": 64} if looks_at_text else {}
    return parse_recipe({"method": method, **few, **PARAMETERS.get(column, {})})


@pytest.fixture(scope="module")
def samples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one for each sample that will be tried."""
    items = (item for item in request.session.items if item.path == request.path and hasattr(item, "callspec"))
    names = {str(item.callspec.params["sample"]) for item in items if "sample" in item.callspec.params}
    folder = tmp_path_factory.mktemp("samples")
    trials.apart(trials.build_all, folder, sorted(names))
    return folder


def test_every_method_has_a_column_and_every_column_a_recipe() -> None:
    assert families.REFUSED.keys() >= METHODS.keys()
    assert all(recipe_of(column).tried_as == column for column in families.REFUSED)
    assert {column for column, _ in SOON} == families.REFUSED.keys()


def test_every_family_has_a_sample_and_every_refusal_a_family() -> None:
    assert {sample.architecture for sample in SAMPLES.values()} == families.FAMILIES.keys()
    known = {
        f"{name}{stored}" for name in (*families.FAMILIES.values(), families.OTHER) for stored in ("", families.STACKED)
    }
    for column in families.REFUSED.values():
        assert column.keys() <= known


@pytest.mark.parametrize(
    ("column", "sample"),
    [
        pytest.param(column, sample, marks=[] if (column, sample) in SOON else pytest.mark.slow)
        for column in families.REFUSED
        for sample in SAMPLES
    ],
)
def test_a_family_does_with_a_method_what_the_table_says(column: str, sample: str, samples: Path) -> None:
    recipe, model = recipe_of(column), samples / sample / "model"
    facts = source.inspect(model)
    reason = families.REFUSED[column].get(families.family(facts))
    if reason is None:
        recipe.check(facts)
        assert not what_is_wrong(recipe, samples / sample)
    else:
        with pytest.raises(ModelUnsupported) as refused:
            recipe.check(facts)
        assert reason in refused.value.message
        assert what_is_wrong(recipe, samples / sample), "it works, and is refused"


def what_is_wrong(recipe: Recipe, sample: Path) -> list[str]:
    """Make a result, and return what is wrong with it, or why there is none."""
    given = (recipe.method.name, recipe.parameters, sample, sample / recipe.tried_as)
    return trials.apart(trials.make, *given) or trials.apart(trials.judge, *given)


def test_what_was_not_tried_is_taken_with_a_warning(tiny: Path) -> None:
    facts = dataclasses.replace(source.inspect(tiny), architecture="OlmoForCausalLM")
    recipe = parse_recipe("gptq:4bit-g128")
    recipe.check(facts)
    (warning,) = families.warnings("gptq", facts)
    assert "gptq was not tried on OlmoForCausalLM" in warning
    assert families.warnings("gptq", source.inspect(tiny)) == ()


def test_experts_in_one_tensor_are_refused_whatever_the_architecture(tiny: Path) -> None:
    facts = dataclasses.replace(source.inspect(tiny), architecture="OlmoeForCausalLM", stacked_experts=True)
    with pytest.raises(ModelUnsupported, match="one by one"):
        parse_recipe("gptq").check(facts)
    parse_recipe("gguf").check(facts)


def test_what_transformers_does_not_know_is_refused_by_name(tiny_copy: Path) -> None:
    config = tiny_copy / "config.json"
    conftest.edit_json(config, architectures=["OlmoForCausalLM"], model_type="olmo")
    families.require_known(tiny_copy, source.inspect(tiny_copy))
    conftest.edit_json(config, architectures=["NobodyForCausalLM"], model_type="nobody")
    with pytest.raises(ModelUnsupported, match="NobodyForCausalLM"):
        families.require_known(tiny_copy, source.inspect(tiny_copy))
