"""Recipes in both forms, the register of methods, and what importing them costs."""

import subprocess
import sys
from typing import Any

import pytest

from core.errors import InvalidRequest
from engines import methods
from engines.methods.base import register
from engines.methods.gguf import GgufMethod, GgufParams
from engines.recipe import parse_recipe


@pytest.mark.parametrize(
    ("given", "short"),
    [
        ("gguf:Q4_K_M", "gguf:Q4_K_M"),
        ("gguf:q8_0", "gguf:Q8_0"),
        ("gguf", "gguf:Q4_K_M"),
        ("gguf:", "gguf:Q4_K_M"),
        (" GGUF:bf16 ", "gguf:BF16"),
        ({"method": "gguf"}, "gguf:Q4_K_M"),
        ({"method": "gguf", "type": "Q6_K"}, "gguf:Q6_K"),
        ("gguf:iq2_xs+imatrix", "gguf:IQ2_XS+imatrix"),
        ("gguf:Attention-High", "gguf:attention-high"),
    ],
)
def test_both_forms_are_understood(given: str | dict[str, Any], short: str) -> None:
    recipe = parse_recipe(given)
    assert recipe.short == short
    assert recipe.document()["method"] == "gguf"
    assert parse_recipe(recipe.document()) == parse_recipe(recipe.short) == recipe


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ("gguf:Q9", "recipe.type", "Q4_K_M"),
        ({"method": "gguf", "type": 4}, "recipe.type", "Q4_K_M"),
        ({"method": "gguf", "bits": 4}, "recipe.bits", "gguf takes: .*type"),
        ({"method": "nope"}, "recipe.method", "gguf"),
        ("nope:4", "recipe.method", "gguf"),
        ("", "recipe.method", "gguf"),
        ({"type": "Q4_0"}, "recipe.method", "method"),
        ({"method": ["gguf"]}, "recipe.method", "method"),
        ([], "recipe", "object"),
        (None, "recipe", "object"),
    ],
)
def test_a_wrong_recipe_says_where_and_what_would_be_right(given: Any, param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        parse_recipe(given)
    assert caught.value.param == param


def test_a_duplicate_method_is_refused() -> None:
    with pytest.raises(ValueError, match="two methods are called 'gguf'"):
        register(GgufMethod())


def test_loading_twice_is_harmless() -> None:
    methods.load()
    methods.load(["engines.methods.gguf"])
    assert methods.get("gguf").engine(GgufParams()).startswith("llama.cpp (llama-cpp-python ")


def test_the_schema_lists_every_type_and_the_default() -> None:
    schema = methods.get("gguf").Params.model_json_schema()["properties"]["type"]
    assert schema["default"] == "Q4_K_M"
    assert {"Q2_K", "Q8_0", "F16", "BF16"} < set(schema["enum"])


def test_reading_recipes_and_sources_loads_nothing_heavy() -> None:
    program = (
        "import sys; from engines import methods, recipe, source; methods.load(); recipe.parse_recipe('gguf');"
        "heavy = {'torch', 'numpy', 'transformers', 'llama_cpp', 'gguf', 'conversion', 'safetensors'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
