"""What is measured, section by section; each yields the names of its rows, and how each is measured."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from bench.gpu import shapes
from bench.gpu.steps import Bench, Ran, StepFailed
from db.jobs import PlannedStep
from demo.__main__ import MODEL
from engines.calibration import IDS_NAME
from engines.methods.base import registered
from engines.recipe import parse_recipe, preset_recipe
from pipeline.plan import plan
from pipeline.quantize import LOSSES
from workers.process import environment_of

GIB = 2**30
Measured = dict[str, Any]
Section = Iterator[tuple[str, Callable[[], Measured]]]
Recipe = str | Mapping[str, Any]
MakeModel = Callable[[], Path]

JUDGED = {"domains": ["prose", "code"], "windows": 40}
NOT_JUDGED = {"domains": ["prose"], "windows": 1}
BESIDE_PRESETS = ("gguf:Q8_0", "gptq:8bit-row", "gptq:3bit-g128", "gptq:2bit-g64", "awq:4bit-g128-ct")
LEAVES_AFTER = 4  # of eight layers
BENCHMARK: Mapping[str, Any] = {
    "context_tokens": [512, 4096],
    "batch_sizes": [1, 8],
    "generated_tokens": 64,
    "repeats": 3,
}
LONG = {"calibration_samples": 128, "calibration_tokens": 2048}
SHORT = {"calibration_samples": 128, "calibration_tokens": 512}
# Of a row's name: its recipe, and how many layers.
DEEP: Mapping[str, tuple[Recipe, int]] = {
    **{f"gptq, {layers} layers": ({"method": "gptq", **SHORT}, layers) for layers in (2, 4, 8)},
    "fp8, 2 layers": ("fp8", 2),
    "int4, 2 layers": ({"method": "int4", **SHORT}, 2),
    "int8, 2 layers": ({"method": "int8", **SHORT}, 2),
    "awq, 2 layers": ({"method": "awq", **SHORT}, 2),
    "awq, llm-compressor's, 2 layers": ({"method": "awq", "format": "compressed-tensors", **SHORT}, 2),
}


def tiny(bench: Bench, _: Path) -> Section:
    """Every method and preset on tiny-llama-6m, beside full precision."""
    presets = [preset_recipe(method, preset)[0] for method in registered().values() for preset in method.presets]
    recipes = [parse_recipe(recipe) for recipe in (*presets, *registered(), *BESIDE_PRESETS)]
    for name, recipe in {recipe.short: recipe.document() for recipe in recipes}.items():
        yield name, partial(_judge, bench, recipe)


def _judge(bench: Bench, recipe: Recipe) -> Measured:
    ran = bench.run(recipe, MODEL, JUDGED)
    facts = ran["quantize"].outcome.facts
    scores = {row.domain: row.perplexity for row in ran["evaluate"].outcome.evaluations}
    full = {row.domain: row.perplexity for row in ran["reference"].outcome.evaluations}
    checks = {check["name"]: check["passed"] for check in ran["verify"].outcome.facts["checks"]}
    return {
        "prose": scores["prose"],
        "code": scores["code"],
        "prose in full": full["prose"],
        "code in full": full["code"],
        "bytes": facts["size_bytes"],
        "bits/weight": facts["bits_per_weight"],
        "engine s": ran["quantize"].engine_seconds,
        "wall s": ran["quantize"].wall_seconds,
        "device": facts["device"],
        "loads and generates": checks["loads"] and checks["generation"],
    }


def beside_bare(bench: Bench, folder: Path) -> Section:
    """8 layers of Llama-3-8B's shape: GPTQModel bare and through us, in turn, and llm-compressor's GPTQ."""
    model = _eight_layers(folder)
    yield "bare GPTQModel, which compiles first", partial(_bare, bench, model)
    yield "gptq", partial(_quantize, bench, model, {"method": "gptq", **LONG})
    yield "bare GPTQModel", partial(_bare, bench, model)
    yield "int4, llm-compressor's GPTQ", partial(_quantize, bench, model, {"method": "int4", **LONG})


def eight_layers(bench: Bench, folder: Path) -> Section:
    """8 layers of Llama-3-8B's shape: every other engine."""
    model = _eight_layers(folder)
    yield "fp8", partial(_quantize, bench, model, "fp8")
    yield "awq", partial(_quantize, bench, model, {"method": "awq", **LONG})
    yield "int8", partial(_quantize, bench, model, {"method": "int8", **LONG})
    compressed = {"method": "awq", "format": "compressed-tensors", **LONG}
    yield "awq, llm-compressor's", partial(_quantize, bench, model, compressed)


def _eight_layers(folder: Path) -> MakeModel:
    return partial(shapes.model_of, folder / "llama-3-8b", shapes.LLAMA_3_8B, 8)


def deep(bench: Bench, folder: Path) -> Section:
    """Layers of Llama-3-70B's shape: with gptq 2, 4 and 8, where the peak of the GPU's memory must not grow."""
    for name, (recipe, layers) in DEEP.items():
        model = partial(shapes.model_of, folder / "llama-3-70b", shapes.LLAMA_3_70B, layers)
        yield name, partial(_quantize, bench, model, recipe)


def resumed(bench: Bench, folder: Path) -> Section:
    """8 layers of Llama-3-8B's shape by gptq, preempted in the middle and gone on with, beside an unbroken run."""
    yield "gptq", partial(_resume, bench, _eight_layers(folder), {"method": "gptq", **LONG})


def speed(bench: Bench, folder: Path) -> Section:
    """8 layers of Llama-3-8B's shape: what a job's benchmark says of a result, and the memory that it takes."""
    yield "gptq", partial(_benchmark, bench, _eight_layers(folder), {"method": "gptq", **SHORT})
    yield "fp8", partial(_benchmark, bench, _eight_layers(folder), "fp8")


def _benchmark(bench: Bench, make_model: MakeModel, recipe: Recipe) -> Measured:
    model = make_model()
    done = {"fetch": shapes.fetched(model)}
    for planned in _steps_of(recipe):
        done[planned.kind] = bench.step(planned, model, done)
    steps = plan(parse_recipe(recipe), NOT_JUDGED, benchmark=BENCHMARK)
    found = bench.step(next(step for step in steps if step.kind == "benchmark"), model, done).outcome.facts
    bench.drop(done["quantize"])
    return {
        **{name: median for point in found["points"] for name, median in _medians(point).items()},
        "load s": found["load_seconds"],
        "peak RAM GiB": found["peak_memory_bytes"] / GIB,
        "peak VRAM GiB": found["peak_vram_bytes"] / GIB,
    }


def _medians(point: Mapping[str, Any]) -> Measured:
    place = f"{point['context_tokens']} \N{MULTIPLICATION SIGN} {point['batch_size']}"
    return {
        f"{place} prompt tokens/s": point["prompt_tokens_per_second"]["median"],
        f"{place} generation tokens/s": point["generation_tokens_per_second"]["median"],
        f"{place} first token ms": round(1000 * point["time_to_first_token_seconds"]["median"], 1),
    }


def _resume(bench: Bench, make_model: MakeModel, recipe: Recipe) -> Measured:
    model = make_model()
    *before, quantize = _steps_of(recipe)
    done = {"fetch": shapes.fetched(model)}
    for planned in before:
        done[planned.kind] = bench.step(planned, model, done)
    left, resumed = bench.broken_off(quantize, model, done, LEAVES_AFTER)
    unbroken = bench.step(quantize, model, done)
    whole, parted = _losses(unbroken), _losses(resumed)
    measured = {
        "asked to leave after layers": LEAVES_AFTER,
        "s until it had left": left.seconds,
        "kept GiB": left.kept_bytes / GIB,
        "unbroken, engine s": unbroken.engine_seconds,
        "the rest, engine s": resumed.engine_seconds,
        "went on after layers": min(resumed.layers_at),
        "modules": [len(whole), len(parted)],
        "largest relative difference of a loss": max(abs(parted[at] / loss - 1) for at, loss in whole.items()),
        "same bytes": _digests(unbroken.output) == _digests(resumed.output),
    }
    bench.drop(unbroken)
    bench.drop(resumed)
    return measured


def _losses(ran: Ran) -> dict[tuple[int, str], float]:
    return {(one["layer"], one["module"]): one["loss"] for one in ran.outcome.facts[LOSSES]}


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of weights."""
    digests = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _quantize(bench: Bench, model: MakeModel, recipe: Recipe) -> Measured:
    ran = quantized(bench, model(), recipe)
    facts = ran.outcome.facts
    measured = {
        "engine s": ran.engine_seconds,
        "start-up s": ran.wall_seconds - ran.engine_seconds,
        "s a layer, warm": median(after - before for before, after in pairwise(ran.layers_at.values())),
        "peak VRAM GiB": (ran.peak_vram_bytes or 0) / GIB,
        "peak RAM GiB": max(ran.memory_bytes.values()) / GIB,
        "peak scratch GiB": max(ran.scratch_bytes.values()) / GIB,
        "RAM by phase": {phase: round(amount / GIB, 2) for phase, amount in ran.memory_bytes.items()},
        "scratch by phase": {phase: round(amount / GIB, 2) for phase, amount in ran.scratch_bytes.items()},
        "bytes": facts["size_bytes"],
        "layers done at s": [round(at, 1) for at in ran.layers_at.values()],
        "left at a quarter, said": ran.left_at_quarter and ran.left_at_quarter[0],
        "left at a quarter": ran.left_at_quarter and ran.left_at_quarter[1],
    }
    bench.drop(ran)
    return measured


def quantized(bench: Bench, model: Path, recipe: Recipe) -> Ran:
    """Run the steps from a model to its quantized result, and return the last."""
    done = {"fetch": shapes.fetched(model)}
    for planned in _steps_of(recipe):
        done[planned.kind] = bench.step(planned, model, done)
    return done["quantize"]


def _steps_of(recipe: Recipe) -> list[PlannedStep]:
    """Return the steps from a fetched model to the result, which is the last's."""
    planned = plan(parse_recipe(recipe), NOT_JUDGED)
    return [step for step in planned if step.kind in ("convert", "calibrate", "imatrix", "quantize")]


def _bare(bench: Bench, make_model: MakeModel) -> Measured:
    model = make_model()
    recipe = parse_recipe({"method": "gptq", **LONG})
    calibrate = next(planned for planned in plan(recipe, NOT_JUDGED) if planned.kind == "calibrate")
    samples = bench.step(calibrate, model, {"fetch": shapes.fetched(model)})
    spec = bench.spec("quantize", "bare", {}, {})
    spec.scratch.mkdir(parents=True)
    command = [sys.executable, "-m", "bench.gpu.bare", str(model), str(samples.output / IDS_NAME), spec.folder]
    environment = {**environment_of(spec), "PYTHONPATH": os.pathsep.join(sys.path)}
    with spec.log.open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        output, _ = process.communicate()
    if process.returncode != 0:
        raise StepFailed("bare GPTQModel", f"status {process.returncode}", spec.log)
    times = json.loads(output.strip().splitlines()[-1])
    shutil.rmtree(spec.folder)
    return {
        "engine s": times["load_seconds"] + times["quantize_seconds"] + times["save_seconds"],
        "start-up s": times["startup_seconds"],
        "peak VRAM GiB": times["peak_vram_bytes"] / GIB,
        "of that": {name: round(value, 1) for name, value in times.items() if name.endswith("seconds")},
    }
