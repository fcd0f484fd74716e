"""Hold forecasts against what was measured: ``python -m bench.forecasts``.

Prints each run of ``bench/results/gpu.md`` on the shapes of large models with what its forecast says today, and how far
that is off, in percent of what was measured. Forecasts keep room for checkpoints; these runs, too short for one, made
none, and none is counted here.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.gpu import shapes
from bench.gpu.results import Results, Row
from bench.gpu.sections import BENCHMARK, DEEP, LONG, Recipe
from engines import benchmark, methods
from engines.benchmark import Wanted
from engines.model_facts import ModelFacts
from engines.recipe import parse_recipe

GIB = 2**30
MEASURED = Path(__file__).parent / "results" / "gpu.md"
# Of a row's name: the recipe that it ran.
EIGHT_LAYERS: Mapping[str, Recipe] = {
    "gptq": {"method": "gptq", **LONG},
    "int4, llm-compressor's GPTQ": {"method": "int4", **LONG},
    "fp8": "fp8",
    "int8": {"method": "int8", **LONG},
    "awq": {"method": "awq", **LONG},
    "awq, llm-compressor's": {"method": "awq", "format": "compressed-tensors", **LONG},
}
COMPILED_FIRST = ("gptq, 2 layers", "gptq, 4 layers")  # their kernels, on machines that had none yet


def compared(rows: list[Row]) -> Iterator[tuple[str, str, float, float]]:
    """Yield the name of a run, what was looked at, and it as forecast and as measured, in GiB or in seconds."""
    methods.load()
    for row in rows:
        if row["section"] == "speed":
            yield from _of_benchmark(row)
        if (asked := _asked(row)) is None:
            continue
        facts, given = dataclasses.replace(asked[0], architecture=""), asked[1]
        recipe = parse_recipe(given)
        forecast = recipe.method.forecast(facts, recipe.params)
        name = f"{row['section']}: {row['name']}"
        yield name, "RAM", forecast.memory_bytes / GIB, row["peak RAM GiB"]
        yield name, "VRAM", forecast.vram_bytes / GIB, row["peak VRAM GiB"]
        yield name, "scratch", forecast.scratch_bytes / GIB, row["peak scratch GiB"]
        yield name, "result", recipe.method.result_bytes(facts, recipe.params) / GIB, row["bytes"] / GIB
        if row["name"] not in COMPILED_FIRST and forecast.seconds is not None:
            yield name, "seconds", forecast.seconds, row["engine s"] + row["start-up s"]


def _of_benchmark(row: Row) -> Iterator[tuple[str, str, float, float]]:
    recipe = parse_recipe(row["name"])
    written = recipe.method.writes(recipe.params)
    facts = shapes.facts_of(shapes.LLAMA_3_8B, 8)
    forecast = benchmark.forecast(facts, written, 0, Wanted(**BENCHMARK))
    name = f"{row['section']}: {row['name']}"
    # What is mapped counts for the process, though it is given back when somebody needs the room.
    yield name, "RAM", (forecast.memory_bytes + facts.weight_bytes) / GIB, row["peak RAM GiB"]
    yield name, "VRAM", forecast.vram_bytes / GIB, row["peak VRAM GiB"]


def _asked(row: Row) -> tuple[ModelFacts, Recipe] | None:
    """Return the model and the recipe of a row; None of what was no run of ours on such a model."""
    if row["section"] == "deep":
        recipe, layers = DEEP[row["name"]]
        return shapes.facts_of(shapes.LLAMA_3_70B, layers), recipe
    if row["section"] in ("beside-bare", "eight-layers") and row["name"] in EIGHT_LAYERS:
        return shapes.facts_of(shapes.LLAMA_3_8B, 8), EIGHT_LAYERS[row["name"]]
    return None


def main() -> None:
    """Print the table, and the largest error of each kind."""
    worst: dict[str, float] = {}
    print("| run | what | forecast | measured | error % |\n| --- | --- | --- | --- | --- |")
    for name, what, forecast, measured in compared(Results(MEASURED).rows):
        error = 100 * (forecast / measured - 1)
        worst[what] = max(worst.get(what, 0), abs(error))
        print(f"| {name} | {what} | {forecast:.3f} | {measured:.3f} | {error:+.1f} |")
    print("\nLargest error: " + ", ".join(f"{what} {error:.1f} %" for what, error in worst.items()))


if __name__ == "__main__":
    main()
