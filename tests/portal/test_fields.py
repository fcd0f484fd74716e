"""From schemas to fields and from what is typed to values: every kind, and schemas that no control can express."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.datastructures import MultiDict

from api.portal.answers import texts_of, values_of
from api.portal.fields import Kind, fields_of
from tests.portal.odd_method import OddParams


class Inner(BaseModel):
    depth: int = 1


class Strange(BaseModel):
    model_config = ConfigDict(json_schema_extra={"required": ["needed"]})

    needed: str
    either: int | str = 5
    maybe_inner: Inner | None = None
    one: Literal["only"] = "only"
    multiple: Annotated[int, Field(multiple_of=32, gt=0, lt=4096)] = 128
    anything: Any = None
    pairs: dict[str, str] = {}
    tags: dict[Annotated[str, Field(pattern="^[a-z]+$")], str] = {}
    matrix: list[list[int]] = []
    lengths: list[int] = [512]


def one(schema: dict[str, Any], name: str) -> Any:
    return next(field for field in fields_of(schema, "recipe") if field.key == name)


def test_each_kind_of_parameter_has_its_control() -> None:
    kinds = {field.key: field.kind for field in fields_of(OddParams.model_json_schema(), "recipe")}
    assert kinds == {
        "bits": Kind.CHOICE,
        "group_size": Kind.CHOICE,
        "damp_percent": Kind.NUMBER,
        "desc_act": Kind.SWITCH,
        "sym": Kind.SWITCH,
        "seed": Kind.INTEGER,
        "format": Kind.CHOICE,
        "calibration": Kind.GROUP,
        "skip": Kind.LINES,
        "dynamic": Kind.JSON,
    }


def test_a_schema_that_no_control_expresses_becomes_json() -> None:
    kinds = {field.key: field.kind for field in fields_of(Strange.model_json_schema())}
    assert kinds["needed"] is Kind.TEXT
    assert (kinds["pairs"], kinds["tags"]) == (Kind.PAIRS, Kind.PAIRS)
    assert kinds["one"] is Kind.CHOICE
    assert {kinds[name] for name in ("either", "anything", "matrix")} == {Kind.JSON}
    assert kinds["maybe_inner"] is Kind.GROUP
    assert kinds["lengths"] is Kind.INTEGERS
    assert fields_of({"properties": {"x": {"type": ["integer", "null"]}}})[0].kind is Kind.JSON
    assert fields_of({}) == ()


def test_bounds_defaults_and_help_are_said() -> None:
    schema = OddParams.model_json_schema()
    assert one(schema, "damp_percent").note == "Added to the Hessian's diagonal. From 0 to 1. Default: 0.01."
    assert one(schema, "sym").note == "Scales without zero points. Default: on."
    assert (one(schema, "seed").minimum, one(schema, "seed").maximum) == (0, None)
    assert one(schema, "seed").nullable
    assert one(schema, "format").options == ("v1", "v2")
    inner = one(schema, "calibration").fields
    assert [field.name for field in inner] == ["recipe.calibration.domains", "recipe.calibration.samples"]
    multiple = one(Strange.model_json_schema(), "multiple")
    assert multiple.note == "From 1 to 4,095. A multiple of 32. Default: 128."
    assert one(Strange.model_json_schema(), "needed").required


@pytest.mark.parametrize("model", [OddParams, Strange])
def test_what_a_form_shows_at_first_is_what_its_defaults_are(model: type[BaseModel]) -> None:
    fields = fields_of(model.model_json_schema(), "recipe")
    values, errors = values_of(fields, texts_of(fields, {"needed": "x"}))
    assert errors == {}
    whole = model.model_validate({"needed": "x"} if model is Strange else {})
    assert model.model_validate(values) == whole


def test_values_keep_their_types() -> None:
    fields = fields_of(OddParams.model_json_schema(), "recipe")
    typed = MultiDict(
        [
            *[("recipe.bits", "3"), ("recipe.group_size", "-1"), ("recipe.damp_percent", " 0.05 ")],
            *[
                ("recipe.desc_act", "on"),
                ("recipe.seed", "7"),
                ("recipe.format", "v2"),
                ("recipe.skip", "a\r\n\r\n b "),
            ],
            *[("recipe.calibration.domains", "code"), ("recipe.calibration.domains", "prose")],
            *[("recipe.calibration.samples", "16"), ("recipe.dynamic", '{"lm_head": 8}')],
        ]
    )
    values, errors = values_of(fields, typed)
    assert errors == {}
    assert values == {
        "bits": 3,
        "group_size": -1,
        "damp_percent": 0.05,
        "desc_act": True,
        "sym": False,  # a box that is not ticked is not sent
        "seed": 7,
        "format": "v2",
        "calibration": {"domains": ["code", "prose"], "samples": 16},
        "skip": ["a", "b"],
        "dynamic": {"lm_head": 8},
    }


def test_a_group_that_may_be_left_out_has_a_switch() -> None:
    fields = fields_of(Strange.model_json_schema())
    without, errors = values_of(fields, MultiDict({"maybe_inner.depth": "5"}))
    assert errors == {}
    assert without["maybe_inner"] is None
    typed = MultiDict({"maybe_inner": "on", "maybe_inner.depth": "5", "lengths": "512, 4096"})
    values, _ = values_of(fields, typed)
    assert (values["maybe_inner"], values["lengths"]) == ({"depth": 5}, [512, 4096])
    again = texts_of(fields, values)
    assert (again["maybe_inner"], again["maybe_inner.depth"], again["lengths"]) == ("on", "5", "512, 4096")
    assert "maybe_inner" not in texts_of(fields, without)
    assert values_of(fields, MultiDict({"lengths": "512,,x"}))[0]["lengths"] == [512, "", "x"]


def test_what_is_no_value_stays_for_validation_or_is_said(subtests: pytest.Subtests) -> None:
    fields = fields_of(Strange.model_json_schema())
    for text, message in [("{", "not JSON"), ("[" * 100_000, "nested"), ("nope", "not JSON")]:
        with subtests.test(text=text[:9]):
            _, errors = values_of(fields, MultiDict({"either": text}))
            assert message in errors["either"]
    _, errors = values_of(fields, MultiDict({"pairs": "a=1\nb"}))
    assert "NAME=VALUE" in errors["pairs"]
    _, errors = values_of(fields, MultiDict({"pairs": "a=1\na=2"}))
    assert "two lines" in errors["pairs"]
    for text in ("abc", "1.5", "9" * 5000, ""):
        values, errors = values_of(fields, MultiDict({"multiple": text}))
        assert values.get("multiple", "") == text
        assert errors == {}
    odd = fields_of(OddParams.model_json_schema(), "recipe")
    for text in ("inf", "nan", "much"):
        assert values_of(odd, MultiDict({"recipe.damp_percent": text}))[0]["damp_percent"] == text
    assert json.dumps(values_of(odd, MultiDict({"recipe.bits": "5"}))[0]["bits"]) == '"5"'
