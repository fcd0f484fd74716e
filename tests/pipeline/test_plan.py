"""Plans and content keys."""

import dataclasses
from typing import Any

import pytest

from core.errors import InvalidRequest
from core.steps import Input, UnboundStep
from engines import methods
from engines.recipe import parse_recipe
from pipeline.binding import describe
from pipeline.kinds import KINDS
from pipeline.plan import plan

EVALUATION: dict[str, Any] = {"domains": ["prose"], "windows": 4}
MODEL = {
    "architecture": "LlamaForCausalLM",
    "parameter_count": 10**6,
    "weight_bytes": 2 * 10**6,
    "dtype": "bfloat16",
    "hidden_size": 256,
    "row_lengths": [256, 768],
    "layer_count": 6,
    "vocabulary_size": 4096,
}

methods.load()


def quantize(**changes: Any) -> UnboundStep:
    step = UnboundStep(
        id="step_1",
        job_id="job_1",
        team_id="team_1",
        kind="quantize",
        pool="cpu",
        source="file:///m",
        params={"recipe": parse_recipe("gguf:Q4_K_M").document()},
        inputs={
            "fetch": Input("art_1", "1" * 64, {"model": MODEL}),
            "convert": Input("art_2", "2" * 64, {}),
        },
    )
    return dataclasses.replace(step, **changes)


@pytest.mark.parametrize(
    ("recipe", "kinds"),
    [
        ("gguf:Q4_K_M", ["fetch", "convert", "quantize", "reference", "verify", "evaluate", "document"]),
        (
            "gguf:IQ2_XS+imatrix",
            ["fetch", "convert", "calibrate", "imatrix", "quantize", "reference", "verify", "evaluate", "document"],
        ),
        ("gptq:4bit-g128", ["fetch", "calibrate", "quantize", "reference", "verify", "evaluate", "document"]),
    ],
)
def test_a_plan_is_a_chain_that_can_be_worked_off(recipe: str, kinds: list[str]) -> None:
    steps = plan(parse_recipe(recipe), EVALUATION)
    assert [step.kind for step in steps] == kinds
    done: set[str] = set()
    for step in steps:
        assert done.issuperset(step.needs), step
        assert step.kind in KINDS
        done.add(step.kind)


def test_the_same_work_has_the_same_key_in_every_job() -> None:
    assert describe(quantize()).key == describe(quantize(id="step_2", job_id="job_2", source="file:///other")).key


@pytest.mark.parametrize(
    "changes",
    [
        {"team_id": "team_2"},
        {"params": {"recipe": {"method": "gguf", "type": "Q8_0"}}},
        {"inputs": {**quantize().inputs, "convert": Input("art_3", "3" * 64, {})}},
    ],
    ids=["team", "recipe", "input"],
)
def test_other_work_has_another_key(changes: dict[str, Any]) -> None:
    assert describe(quantize()).key != describe(quantize(**changes)).key


def test_a_local_source_is_fetched_anew_for_each_job() -> None:
    fetch = UnboundStep("step_1", "job_1", "team_1", "fetch", "cpu", "file:///m", {}, {})
    assert describe(fetch).key != describe(dataclasses.replace(fetch, job_id="job_2")).key


def test_a_benchmark_is_each_jobs_own_and_alone_on_its_host() -> None:
    benchmark = {"context_tokens": [512], "batch_sizes": [1], "generated_tokens": 64, "repeats": 3}
    *_, planned, document = plan(parse_recipe("gptq"), EVALUATION, benchmark=benchmark)
    assert (planned.kind, planned.pool) == ("benchmark", "gpu")
    assert "benchmark" in document.needs
    sizes = {**MODEL, "position_count": 2048}
    inputs = {
        "fetch": Input("art_1", "1" * 64, {"model": sizes}),
        "quantize": Input("art_2", "2" * 64, {"size_bytes": 5}),
    }
    step = UnboundStep("step_1", "job_1", "team_1", "benchmark", "gpu", "file:///m", planned.params, inputs)
    work = describe(step)
    assert work.is_exclusive
    assert work.key != describe(dataclasses.replace(step, job_id="job_2")).key
    assert work.key == describe(dataclasses.replace(step, id="step_2")).key
    with pytest.raises(InvalidRequest, match="1984 at most"):
        describe(dataclasses.replace(step, params={**planned.params, "context_tokens": [2048]}))


CALIBRATION = {"calibration_text": "code", "calibration_samples": 7, "calibration_tokens": 64, "seed": 3}


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "gguf", "type": "Q4_K_M"},
        {"method": "gguf", "type": "F16"},
        {"method": "fp8", "activations": "dynamic"},
    ],
    ids=str,
)
def test_calibration_that_nothing_looks_at_is_no_other_work(recipe: dict[str, Any]) -> None:
    steps = plan(parse_recipe(recipe), EVALUATION)
    assert plan(parse_recipe({**recipe, **CALIBRATION}), EVALUATION) == steps
    (quantizing,) = (step for step in steps if step.kind == "quantize")
    again = parse_recipe(quantizing.params["recipe"])
    assert again == parse_recipe(recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "gguf", "type": "Q4_K_M", "imatrix": True},
        {"method": "fp8", "activations": "static"},
        {"method": "int8"},
        {"method": "gptq"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", CALIBRATION)
def test_calibration_that_is_looked_at_is_other_work(name: str, recipe: dict[str, Any]) -> None:
    first, second = (
        next(step for step in plan(parse_recipe(given), EVALUATION) if step.kind == "quantize")
        for given in (recipe, {**recipe, name: CALIBRATION[name]})
    )
    assert first.params != second.params


def test_a_chosen_pre_tokenizer_is_the_conversions_and_nothing_of_it_is_in_other_jobs() -> None:
    def conversion(**recipe: Any) -> Any:
        return next(
            step for step in plan(parse_recipe({"method": "gguf", **recipe}), EVALUATION) if step.kind == "convert"
        )

    assert conversion().params == {}
    assert conversion(pre_tokenizer="qwen2").params == {"pre_tokenizer": "qwen2"}
