"""Every method and preset on an NVIDIA GPU: the result is sound, and memory does not grow with the layers."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import evaluation, methods, probe, verification
from engines.context import EngineContext
from engines.methods.base import registered
from engines.recipe import parse_recipe, preset_recipe
from engines.runtimes import open_runtime
from engines.verification.subject import Subject
from tests.engines import conftest, making

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

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
        score = evaluation.evaluate(runtime, tiny, ["prose"], 10, lambda _: None)["prose"]
        return probe.ask(runtime, tiny), score["perplexity"]


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
    checks = verification.verify(on_gpu(make_context()), subject, full_precision[0])
    assert not [check for check in checks if not check.passed]
    with open_runtime(written, context.output, on_gpu(make_context())) as runtime:
        score = evaluation.evaluate(runtime, tiny, ["prose"], 10, lambda _: None)["prose"]
    assert score["perplexity"] < full_precision[1] * (1 + LOSS_MAX)


PEAK = """
import sys, pathlib
from engines import gpu, methods
from engines.recipe import parse_recipe
from tests.engines.conftest import context_in
methods.load()
recipe = parse_recipe(sys.argv[1])
folder = pathlib.Path(sys.argv[2])
material = {name: folder / name for name in recipe.method.material(recipe.params)}
recipe.method.quantize(context_in(folder, 4, "cuda:0"), material, recipe.params)
print(gpu.peak_vram_bytes())
"""


@pytest.mark.parametrize("short", ["gptq", "awq", "awq:4bit-g128-ct", "fp8", "int8", "int4"])
def test_the_gpus_memory_does_not_grow_with_the_layers(
    short: str, tiny: Path, tmp_path: Path, make_context: conftest.MakeContext
) -> None:
    recipe = parse_recipe(short)
    two = conftest.cut_to_two_layers(tiny, tmp_path / "two-layers")
    peaks = []
    for model in (two, tiny):
        folder = tmp_path / f"of-{model.name}"
        folder.mkdir()
        for name, path in making.material_of(recipe, model, make_context).items():
            (folder / name).symlink_to(path)
        command = [sys.executable, "-c", PEAK, short, str(folder)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
        peaks.append(int(said.strip().splitlines()[-1]))
    layer_bytes = sum(path.stat().st_size for path in tiny.glob("*.safetensors")) // 6
    assert peaks[1] - peaks[0] < layer_bytes, peaks
