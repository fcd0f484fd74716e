"""Rules for single modules: which patterns are taken, which rule holds, and what a checkpoint says of them."""

import json
import re
import time

import pytest

from core.errors import InvalidRequest
from engines.module_rules import dynamic, packing, require_matches
from engines.recipe import parse_recipe

RULES = [
    {"match": r".*\.mlp\.down_proj", "bits": 8, "group_size": 32},
    {"match": r"model\.layers\.(0|1)\..*", "bits": 3, "desc_act": True},
    {"match": r".*\.1\.mlp\..*", "skip": True},
]
BASE = {"bits": 4, "group_size": 128, "sym": True, "desc_act": False}


def config() -> dict[str, object]:
    recipe = parse_recipe({"method": "gptq", "modules": RULES})
    return {**BASE, "dynamic": dynamic(recipe.parameters["modules"])}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("model.layers.0.mlp.down_proj", (8, 32, False)),  # the first that matches
        ("model.layers.0.mlp.up_proj", (3, 128, True)),
        ("model.layers.1.mlp.down_proj", None),  # a rule that skips comes before all
        ("model.layers.11.mlp.up_proj", (4, 128, False)),  # a whole name, not its beginning
        ("lm_head", (4, 128, False)),
    ],
)
def test_the_rule_that_holds(module: str, expected: tuple[int, int, bool] | None) -> None:
    found = packing(config(), module)
    assert (found and (found.bits, found.group_size, found.desc_act)) == expected


def test_rules_keep_their_order_as_a_document() -> None:
    recipe = parse_recipe({"method": "gptq", "modules": RULES})
    assert [rule["match"] for rule in recipe.document()["modules"]] == [rule["match"] for rule in RULES]
    assert parse_recipe(json.loads(json.dumps(recipe.document()))) == recipe


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"match": "(", "bits": 8}, "no regular expression"),
        ({"match": "", "bits": 8}, "at least 1 character"),
        ({"match": "a" * 201, "bits": 8}, "at most 200 characters"),
        ({"match": "(a+)+", "bits": 8}, "not repeated"),
        ({"match": "(|a)" * 5, "bits": 8}, "at most 4 groups"),
        ({"match": ".*.*.*.*.*", "bits": 8}, r"at most 4 of"),
        ({"match": "(?i)model", "bits": 8}, "a pattern is made of"),
        ({"match": "(?!model).*", "bits": 8}, "a pattern is made of"),
        ({"match": r"(a)\1", "bits": 8}, "a pattern is made of"),
        ({"match": "model"}, "either skips"),
        ({"match": "model", "skip": True, "bits": 8}, "either skips"),
        ({"match": "model", "bits": 5}, "Input should be 2, 3, 4 or 8"),
        ({"match": "model", "width": 5}, "Extra inputs"),
    ],
    ids=str,
)
def test_other_rules_are_refused(rule: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        parse_recipe({"method": "gptq", "modules": [rule]})
    assert str(refused.value.param).startswith("recipe.modules")


def test_two_rules_for_one_pattern_and_too_many_rules_are_refused() -> None:
    rule = {"match": "lm_head", "bits": 8}
    with pytest.raises(InvalidRequest, match="two rules"):
        parse_recipe({"method": "gptq", "modules": [rule, rule]})
    with pytest.raises(InvalidRequest, match="at most 32 items"):
        parse_recipe({"method": "gptq", "modules": [{"match": f"a{n}", "bits": 8} for n in range(33)]})


def test_a_rule_for_no_module_is_refused_with_names_that_there_are() -> None:
    with pytest.raises(InvalidRequest, match=r"No module .* such as model\.layers\.0\.mlp\.up_proj"):
        require_matches(config(), ["model.layers.0.mlp.up_proj"])


def test_the_worst_pattern_that_is_taken_is_quick() -> None:
    worst = "(.?|.*)(.?|.*)" + "(a|a)" * 2 + "b"
    parse_recipe({"method": "gptq", "modules": [{"match": worst, "bits": 8}]})
    begin = time.monotonic()
    assert not re.match(f"^(?:{worst})$", "a" * 100)
    assert time.monotonic() - begin < 1
