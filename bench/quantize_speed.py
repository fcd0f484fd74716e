"""How fast llama-quantize makes each type on this machine: ``python -m bench.quantize_speed [FILE]``.

On a random model of 110 million weights. ``engines/gguf_types.py`` keeps the speeds, for forecasts of time.
"""

import os
import platform
import tempfile
from pathlib import Path

import click

from bench.gpu import shapes
from bench.gpu.results import Results
from bench.gpu.sections import quantized
from bench.gpu.steps import Bench
from engines import methods
from engines.gguf_types import MAIN, NEED_IMATRIX
from engines.machine import hardware
from engines.source import inspect

SHAPE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 8192,
}
LAYERS = 6
SAMPLES = {"calibration_samples": 4, "calibration_tokens": 256}
RESULTS = Path(__file__).parent / "results" / "quantize_speed.md"


@click.command()
@click.argument("results", type=click.Path(path_type=Path), default=RESULTS)
def main(results: Path) -> None:
    """Measure all types that are not in the results yet: one file type of each tensor type."""
    methods.load()
    cores = len(os.sched_getaffinity(0))
    kept = Results(
        results,
        f"{cores} cores of {hardware('cpu')['cpu']}, Python {platform.python_version()}",
        "bench.quantize_speed",
    )
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), "cpu")
        model = shapes.model_of(Path(place, "model"), SHAPE, LAYERS)
        weights = inspect(model).parameter_count
        for tensor_type, file_type in {tensor_type: file_type for file_type, tensor_type in MAIN.items()}.items():
            if kept.has("quantize speed", tensor_type):
                continue
            recipe = {"method": "gguf", "type": file_type, **SAMPLES, "imatrix": file_type in NEED_IMATRIX}
            ran = quantized(bench, model, recipe)
            speed = weights / ran.engine_seconds / 1e6
            measured = {"file type": file_type, "engine s": ran.engine_seconds, "million weights a second": speed}
            kept.add("quantize speed", tensor_type, measured)
            bench.drop(ran)


if __name__ == "__main__":
    main()
