"""Which runtimes serve what recipes write: the table, the facts that it goes by, and the warning."""

import tomllib
from typing import Any

import pytest

from engines import methods, serving
from engines.methods.base import registered
from engines.recipe import Recipe, parse_recipe, preset_recipe
from engines.serving.facts import facts
from engines.serving.table import GENERATIONS, RULES, RUNTIMES
from tests.conftest import REPOSITORY

methods.load()


def servers(recipe: Recipe) -> set[str]:
    return {note.runtime for note in recipe.runtimes if note.serves and RUNTIMES[note.runtime].is_server}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gguf:Q4_K_M", {"vLLM", "SGLang", "llama.cpp"}),
        ("gguf:IQ2_XXS+imatrix", {"vLLM", "SGLang", "llama.cpp"}),
        ({"method": "gguf", "tensor_types": {"ffn_": "mxfp4"}}, {"llama.cpp"}),
        ({"method": "gguf", "split_max_bytes": 10**7}, {"vLLM", "llama.cpp"}),
        ("gptq:4bit-g128", {"vLLM", "SGLang"}),
        ("gptq:8bit-row", {"vLLM", "SGLang"}),
        ("gptq:4bit-g128-desc_act", {"SGLang"}),
        ("gptq:4bit-row-desc_act", {"vLLM", "SGLang"}),
        ({"method": "gptq", "desc_act": True, "static_groups": True}, {"vLLM", "SGLang"}),
        ("gptq:3bit-g128", set()),
        ("gptq:4bit-g128-asym", set()),
        ("gptq:4bit-g256", set()),
        ({"method": "gptq", "modules": [{"match": r".*down_proj", "bits": 8}]}, {"vLLM", "SGLang"}),
        ({"method": "gptq", "modules": [{"match": r".*down_proj", "bits": 3}]}, set()),
        ({"method": "gptq", "modules": [{"match": r".*down_proj", "skip": True}]}, {"vLLM", "SGLang"}),
        ("awq:4bit-g64", {"vLLM", "SGLang"}),
        ("awq:4bit-g128-sym", {"vLLM", "SGLang"}),
        ("awq:4bit-g128-ct", {"vLLM", "SGLang"}),
        ("int4:w4a16-g32-asym", {"vLLM", "SGLang"}),
        ("int8:w8a8", {"vLLM", "SGLang"}),
        ("int8:w8a16-g128", {"vLLM", "SGLang"}),
        ("fp8", {"vLLM", "SGLang"}),
        ("fp8:static", {"vLLM", "SGLang"}),
        ({"method": "fp8", "lm_head": True}, set()),
    ],
)
def test_what_the_servers_take(given: Any, expected: set[str]) -> None:
    recipe = parse_recipe(given)
    assert servers(recipe) == expected
    assert bool(recipe.warnings) == (not expected)


def test_every_preset_and_default_is_served() -> None:
    for method in registered().values():
        if type(method).__module__.startswith("engines.methods."):
            made = [preset_recipe(method, preset)[1] for preset in method.presets]
            for params in (parse_recipe(method.name).params, *made):
                assert servers(Recipe(method, params)), (method.name, params)


def test_a_warning_says_who_runs_it_and_why_the_others_do_not() -> None:
    [warning] = parse_recipe("gptq:3bit-g128").warnings
    assert "gptq:3bit-g128" in warning
    assert "Only transformers can run it." in warning
    assert "vLLM does not serve bits 3 (only 4 or 8)" in warning
    assert "llama.cpp does not read gptq" in warning
    rules = {"method": "gptq", "bits": 3, "modules": [{"match": r".*down_proj", "bits": 4}]}
    [warning] = parse_recipe(rules).warnings
    assert "Only" not in warning
    assert "transformers does not serve rules for single modules" in warning


def test_gpus_are_told_where_another_kernel_serves_older_ones() -> None:
    found = [(note.gpus, note.how) for note in parse_recipe("fp8").runtimes if note.runtime == "vLLM"]
    assert found == [
        ("NVIDIA from Ada (8.9)", "kernels that multiply in FP8"),
        (
            "NVIDIA from Turing (7.5), before Ada (8.9)",
            "Marlin kernels, for weights alone: activations are not rounded",
        ),
    ]
    [int8] = [note.gpus for note in parse_recipe("int8:w8a8").runtimes if note.runtime == "SGLang"]
    assert int8 == "NVIDIA from Ampere (8.0), before Blackwell (10.0)"


def test_each_runtime_says_of_each_format_whether_it_serves_it_and_by_what_source() -> None:
    for method in registered().values():
        recipe = Recipe(method, method.Params())
        assert {note.runtime for note in recipe.runtimes} == set(RUNTIMES)
        for note in recipe.runtimes:
            assert note.sources
            assert note.serves == (note.why_not is None) == (note.how is not None) == bool(note.gpus)


def test_facts_that_are_not_told_are_taken_to_fit() -> None:
    assert facts("gguf", {"label": "of a plug-in"}) == ({"split": False},)
    assert all(note.serves for note in serving.notes("gguf", {}))


def test_every_fact_that_a_rule_asks_for_is_one_that_its_format_has() -> None:
    known: dict[str, set[str]] = {}
    for method in registered().values():
        recipe = Recipe(method, method.Params())
        form = method.writes(recipe.params)
        for kind in facts(form, method.promises(recipe.params)):
            known.setdefault(form, set()).update(kind)
    recipe = parse_recipe("awq:4bit-g128-ct")
    for kind in facts("compressed-tensors", recipe.method.promises(recipe.params)):
        known.setdefault("compressed-tensors", set()).update(kind)
    for rule in RULES:
        assert set(rule.takes) <= known[rule.format], rule
        assert rule.runtime in RUNTIMES
        assert {rule.since, rule.before} - {None} <= set(GENERATIONS)


def test_what_is_installed_here_was_read_at_the_version_that_is_pinned() -> None:
    """A new version may serve more, or less: read its sources again."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pins = dict(pin.split("==") for pinned in extras.values() for pin in pinned if "==" in pin)
    assert RUNTIMES["transformers"].version == pins["transformers"]
    assert RUNTIMES["llama.cpp"].version == f"of llama-cpp-python {pins['llama-cpp-python']}"
    cited = {source.partition(": ")[0] for rule in RULES for source in rule.sources}
    assert {f"GPTQModel {pins['gptqmodel']}", f"optimum {pins['optimum']}"} <= cited
