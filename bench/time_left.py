"""Hold what is said to be left after a quarter of the layers against what was: ``python -m bench.time_left [FILE]``.

Runs each method that goes layer by layer on this machine's CPU, on a random model of eight layers. On a GPU the rows of
``python -m bench.gpu`` say it.
"""

import platform
import tempfile
from pathlib import Path

import click

from bench.gpu import shapes
from bench.gpu.results import Results
from bench.gpu.sections import Recipe, quantized
from bench.gpu.steps import Bench
from engines import methods
from engines.machine import hardware

SHAPE = {"hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8, "num_key_value_heads": 4}
LAYERS = 8
SAMPLES = {"calibration_samples": 32, "calibration_tokens": 256}
RECIPES: dict[str, Recipe] = {
    "gptq": {"method": "gptq", **SAMPLES},
    "awq": {"method": "awq", **SAMPLES},
    "fp8": {"method": "fp8"},
    "int4": {"method": "int4", **SAMPLES},
    "int8": {"method": "int8", **SAMPLES},
    "int8, W8A16": {"method": "int8", "scheme": "w8a16", **SAMPLES},
    "fp8, static": {"method": "fp8", "activations": "static", **SAMPLES},
}
RESULTS = Path(__file__).parent / "results" / "time_left.md"


@click.command()
@click.argument("results", type=click.Path(path_type=Path), default=RESULTS)
def main(results: Path) -> None:
    """Measure all rows that are not in the results yet."""
    methods.load()
    kept = Results(results, f"{hardware('cpu')['cpu']}, Python {platform.python_version()}", "bench.time_left")
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), "cpu")
        model = shapes.model_of(Path(place, "model"), SHAPE, LAYERS)
        for name, recipe in RECIPES.items():
            if not kept.has("time left", name):
                ran = quantized(bench, model, recipe)
                said, really = ran.left_at_quarter or (None, None)
                kept.add(
                    "time left",
                    name,
                    {
                        "said": said,
                        "really": really,
                        "engine s": ran.engine_seconds,
                        "layers done at s": [round(at, 2) for at in ran.layers_at.values()],
                    },
                )
                bench.drop(ran)


if __name__ == "__main__":
    main()
