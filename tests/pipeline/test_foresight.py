"""What is forecast before anything has run is what is forecast when each step is bound."""

from dataclasses import asdict
from pathlib import Path

import pytest

from core.steps import Input, UnboundStep
from engines import methods, source
from engines.methods.base import Forecast
from engines.recipe import parse_recipe
from pipeline.binding import describe
from pipeline.foresight import BYTES_MAX, NOTHING, foresee, need_of
from pipeline.kinds import KINDS
from pipeline.plan import plan
from tests.pipeline.record import documenting

EVALUATION = {"domains": ["prose"], "windows": 4}
RECIPES = ("gguf:Q4_K_M", "gguf:F16", "gguf:IQ2_XS+imatrix", "gptq:4bit-g128")

methods.load()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_plan_is_forecast_as_its_steps_will_be(recipe: str, tiny_llama: Path) -> None:
    model = source.inspect(tiny_llama)
    parsed = parse_recipe(recipe)
    steps = plan(parsed, EVALUATION)
    found_out = {
        "fetch": Input("art_1", "1" * 64, {"model": asdict(model)}),
        "convert": Input("art_2", "2" * 64, {"size_bytes": model.weight_bytes}),
        "calibrate": Input("art_5", "5" * 64, {"tokens": 512}),
        "imatrix": Input("art_6", "6" * 64, {}),
        "quantize": Input("art_3", "3" * 64, {"size_bytes": parsed.method.result_bytes(model, parsed.params)}),
        "reference": Input("art_4", "4" * 64, {}),
    }
    for planned, foreseen in zip(steps, foresee(steps, model), strict=True):
        inputs = {kind: found_out[kind] for kind in planned.needs if kind in found_out}
        step = UnboundStep("step_1", "job_1", "team_1", planned.kind, planned.pool, "file:///m", planned.params, inputs)
        if planned.kind == "document":
            step = documenting(recipe, "model.gguf")
        assert (foreseen.kind, foreseen.pool) == (planned.kind, planned.pool)
        assert foreseen.need == describe(step).need
        assert foreseen.need.memory_bytes > 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_of_a_source_that_is_not_seen_nothing_is_foretold(recipe: str) -> None:
    steps = plan(parse_recipe(recipe), EVALUATION)
    assert [step.need for step in foresee(steps, None)] == [NOTHING] * len(steps)


def test_a_larger_type_makes_a_larger_result(tiny_llama: Path) -> None:
    model = source.inspect(tiny_llama)
    sizes = [
        KINDS["quantize"].expect({"recipe": parse_recipe(f"gguf:{name}").document()}, model)["size_bytes"]
        for name in ("Q4_K_M", "Q8_0", "F16")
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


def test_a_forecast_beyond_all_machines_can_still_be_stored() -> None:
    need = need_of(Forecast(memory_bytes=2**70, scratch_bytes=2**63, vram_bytes=5))
    assert (need.memory_bytes, need.scratch_bytes, need.vram_bytes) == (BYTES_MAX, BYTES_MAX, 5)
    assert not need.needs_gpu


def test_that_work_needs_a_gpu_is_stored() -> None:
    assert need_of(Forecast(memory_bytes=1, scratch_bytes=1, needs_gpu=True)).needs_gpu
