"""What is refused at submit, before anything runs."""

import shutil
from pathlib import Path

import pytest

from core.errors import InvalidRequest, ModelUnsupported
from engines import methods
from engines.recipe import Recipe, parse_recipe
from pipeline import precheck
from pipeline.precheck import inspect_model, look_at, require_fit

methods.load()


def check(recipe: Recipe, model: Path) -> None:
    seen = look_at(model.as_uri(), (model.parent,))
    assert seen is not None
    require_fit(recipe, seen)


def test_a_group_size_that_does_not_divide_is_refused_with_the_row_length(tiny_llama: Path) -> None:
    recipe = parse_recipe({"method": "gptq", "group_size": 512})
    with pytest.raises(InvalidRequest, match="rows of 256 weights") as refused:
        check(recipe, tiny_llama)
    assert refused.value.param == "recipe.group_size"


def test_a_family_with_which_a_method_cannot_work_is_refused_with_the_reason(tiny_llama: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    config = model / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "Phi3ForCausalLM"))
    with pytest.raises(ModelUnsupported, match="gate_up_proj") as refused:
        check(parse_recipe("gptq:4bit-g128"), model)
    assert refused.value.param == "recipe.method"
    check(parse_recipe("gguf:Q4_K_M"), model)


@pytest.mark.parametrize("recipe", ["gptq:4bit-g128", "gptq:4bit-row", "gguf:Q4_K_M"])
def test_a_recipe_that_goes_with_its_model_passes(recipe: str, tiny_llama: Path) -> None:
    check(parse_recipe(recipe), tiny_llama)


def test_what_cannot_be_looked_at_from_here_is_left_to_the_fetch(tiny_llama: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(tiny_llama, tmp_path / "broken"))
    (broken / "config.json").write_text("{")
    for location in (tmp_path / "elsewhere", broken):
        assert look_at(location.as_uri(), (tmp_path,)) is None


def test_a_model_that_has_changed_in_its_place_is_looked_at_anew(tiny_llama: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    before = look_at(model.as_uri(), (tmp_path,))
    assert before is not None
    config = model / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": ', '"num_hidden_layers": 1'))
    after = look_at(model.as_uri(), (tmp_path,))
    assert after is None or after.facts.layer_count > before.facts.layer_count


def test_what_is_said_of_one_matrix_of_a_kind_is_said_of_all() -> None:
    """A model has tens of thousands; those that differ by numbers in their names alone are looked at once."""
    kinds = precheck._one_of_each_kind(
        {
            f"model.layers.{layer}.mlp.experts.{expert}.{name}": (128, 256 if layer else 64)
            for layer in range(3)
            for expert in range(4)
            for name in ("up_proj", "down_proj")
        }
    )
    assert list(kinds.items()) == [
        ("model.layers.0.mlp.experts.0.up_proj", (128, 64)),
        ("model.layers.0.mlp.experts.0.down_proj", (128, 64)),
        ("model.layers.1.mlp.experts.0.up_proj", (128, 256)),
        ("model.layers.1.mlp.experts.0.down_proj", (128, 256)),
    ]


def test_an_inspection_looks_at_one_matrix_of_a_kind(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    monkeypatch.setattr(Recipe, "check_matrices", lambda _, found: looked_at.append(len(found)))
    fits = inspect_model(tiny_llama.as_uri(), (tiny_llama.parent,)).fits
    assert len(looked_at) == len(fits)
    assert set(looked_at) == {7}  # of a layer; the head is the embedding


def test_an_inspection_says_what_a_check_says(tiny_llama: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    config = model / "config.json"
    config.write_text(config.read_text().replace('"max_position_embeddings": 2048', '"max_position_embeddings": 500'))
    found = {fit.name: fit for fit in inspect_model(model.as_uri(), (tmp_path,)).fits}
    assert found["gguf:Q4_K_M"].error is None
    for name in ("gptq:4bit-g128", "gguf:Q5_K_M+imatrix"):
        with pytest.raises(InvalidRequest) as refused:
            check(found[name].recipe, model)
        error = found[name].error
        assert error is not None
        assert error.document() == refused.value.document()
