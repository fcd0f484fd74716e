"""Every method and preset on an NVIDIA GPU: the result is sound, and memory does not grow with the layers."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import benchmark, methods, probe, source, verification
from engines.context import EngineContext
from engines.methods.base import registered
from engines.recipe import parse_recipe, preset_recipe
from engines.runtimes import open_runtime
from engines.verification.subject import Subject
from tests.engines import breaking_off, conftest, families, making
from tests.engines.breaking_off import Break

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

SHALLOW, DEEP = 4, 8
WIDE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "initializer_range": 0.02,
}
RESUMED_TOLERANCE = 0.001
LOSS_MAX = 0.2  # of the source's perplexity, for presets of 4 bits and more


def recipes() -> Iterator[str]:
    methods.load()
    yield "awq:4bit-g128-ct"
    for method in registered().values():
        yield parse_recipe(method.name).short
        yield from (preset_recipe(method, preset)[0] for preset in method.presets)


def on_gpu(context: EngineContext) -> EngineContext:
    return dataclasses.replace(context, device="cuda:0")


@pytest.fixture(scope="module")
def full_precision(tiny: Path, make_context: conftest.MakeContext) -> tuple[probe.Answers, float]:
    with open_runtime("safetensors", tiny, on_gpu(make_context())) as runtime:
        perplexity = making.score(runtime, tiny, {"prose": 10}, make_context())["prose"]
        return probe.ask(runtime, probe.read_windows(tiny)), perplexity


@pytest.mark.parametrize("recipe", sorted(set(recipes())))
def test_what_is_made_on_a_gpu_is_verified_and_close_to_full_precision(
    recipe: str, tiny: Path, full_precision: tuple[probe.Answers, float], make_context: conftest.MakeContext
) -> None:
    parsed, context = parse_recipe(recipe), on_gpu(make_context())
    written = parsed.method.writes(parsed.params)
    lossless = making.converted(tiny, make_context()) if written == "gguf" else None
    making.quantize(parsed, context, tiny, make_context, lossless)
    promises = parsed.method.promises(parsed.params)
    subject = Subject(written, context.output, tiny, lossless, promises)
    checks = verification.verify(on_gpu(make_context()), subject, full_precision[0]).checks
    assert not [check for check in checks if not check.passed]
    with open_runtime(written, context.output, on_gpu(make_context())) as runtime:
        perplexity = making.score(runtime, tiny, {"prose": 10}, make_context())["prose"]
    assert perplexity < full_precision[1] * (1 + LOSS_MAX)


PEAK = """
import sys, pathlib
from engines import methods, peaks
from engines.recipe import parse_recipe
from tests.engines.conftest import context_in
methods.load()
recipe = parse_recipe(sys.argv[1])
folder = pathlib.Path(sys.argv[2])
material = {name: folder / name for name in recipe.method.material(recipe.params)}
recipe.method.quantize(context_in(folder, 4, "cuda:0"), material, recipe.params)
print(peaks.peak_vram_bytes())
"""


@pytest.fixture(scope="module")
def by_layers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two models that differ in depth; a layer weighs more than what a thread of an engine keeps on the GPU."""
    made = {}
    for layers in (SHALLOW, DEEP):
        made[layers] = tmp_path_factory.mktemp("deep") / f"{layers}-layers"
        families.build(made[layers], families.Sample("Llama", {**WIDE, "num_hidden_layers": layers}))
    return made


@pytest.mark.parametrize("short", ["gptq", "awq", "awq:4bit-g128-ct", "fp8", "int8", "int4"])
def test_the_gpus_memory_does_not_grow_with_the_layers(
    short: str, by_layers: dict[int, Path], tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    recipe = parse_recipe(short)
    peaks = []
    for model in by_layers.values():
        folder = tmp_path / model.name
        folder.mkdir()
        for name, path in making.material_of(recipe, model, make_context).items():
            (folder / name).symlink_to(path)
        command = [sys.executable, "-c", PEAK, short, str(folder)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout
        peaks.append(int(said.strip().splitlines()[-1]))
    shallow, deep = (source.inspect(model).weight_bytes for model in by_layers.values())
    assert peaks[1] - peaks[0] < (deep - shallow) / 2, peaks


SPEED = """
import json, pathlib, sys
from engines import benchmark
from tests.engines.conftest import context_in
context = context_in(pathlib.Path(sys.argv[2]), 4, "cuda:0")
wanted = benchmark.Wanted([512, 2048], [1, 8], generated_tokens=16, repeats=2)
print(json.dumps(benchmark.measure("safetensors", pathlib.Path(sys.argv[1]), context, wanted)))
"""


def test_a_benchmark_takes_the_memory_that_was_forecast(by_layers: dict[int, Path], tmp_path: Path) -> None:
    model = by_layers[SHALLOW]
    command = [sys.executable, "-c", SPEED, str(model), str(tmp_path)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout
    found = json.loads(said.strip().splitlines()[-1])
    facts, wanted = source.inspect(model), benchmark.Wanted([512, 2048], [1, 8], generated_tokens=16, repeats=2)
    forecast = benchmark.forecast(facts, "safetensors", facts.weight_bytes, wanted)
    assert "NVIDIA" in found["hardware"]["gpu"]
    assert not found["is_serving_speed"]
    assert found["peak_vram_bytes"] <= forecast.vram_bytes < 2 * found["peak_vram_bytes"]
    with_mapped = forecast.memory_bytes + facts.weight_bytes
    assert found["peak_memory_bytes"] <= with_mapped < 2 * found["peak_memory_bytes"]
    assert all(point["generation_tokens_per_second"]["min"] > 0 for point in found["points"])


@pytest.mark.parametrize("short", ["gptq", "awq"])
def test_what_was_broken_off_becomes_as_good_as_what_was_not(
    short: str, tiny: Path, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    recipe = parse_recipe(short)
    material = making.material_of(recipe, tiny, make_context)
    whole, resumed = on_gpu(make_context()), on_gpu(make_context())
    reports: list[float] = []
    recipe.method.quantize(whole, material, recipe.params)
    saved = breaking_off.break_off({"method": short}, material, tmp_path, Break(dies_at=3.3), "cuda:0")
    shutil.copytree(saved, resumed.checkpoint, dirs_exist_ok=True)
    heard = dataclasses.replace(resumed, report=lambda progress: reports.append(progress.done))
    recipe.method.quantize(heard, material, recipe.params)
    assert next(done for done in reports if done) >= 3
    written = recipe.method.writes(recipe.params)
    judged = [
        making.perplexities(written, context.output, tiny, lambda: on_gpu(make_context()))
        for context in (whole, resumed)
    ]
    assert judged[1] == pytest.approx(judged[0], rel=RESUMED_TOLERANCE)
