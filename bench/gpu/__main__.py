"""Measure on an NVIDIA GPU: ``python -m bench.gpu [SECTION ...] [--results FILE] [--folder DIR] [--seconds N]``.

Sections: ``tiny``, ``beside-bare``, ``eight-layers``, ``deep``, ``resumed``, ``speed``, ``stack``; all by default. A
row is written as soon as it is measured, and is not measured again, so a run that was broken off goes on where it was.
With ``--seconds`` no row is begun after them.
"""

import platform
import shutil
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import click

from bench.gpu import stack
from bench.gpu.results import Results
from bench.gpu.sections import Section, beside_bare, deep, eight_layers, resumed, speed, tiny
from bench.gpu.steps import Bench
from engines import methods
from workers.devices import devices

SECTIONS: Mapping[str, Callable[[Bench, Path], Section]] = {
    "tiny": tiny,
    "beside-bare": beside_bare,
    "eight-layers": eight_layers,
    "deep": deep,
    "resumed": resumed,
    "speed": speed,
    "stack": stack.jobs,
}
PACKAGES = ("torch", "transformers", "gptqmodel", "llmcompressor", "compressed-tensors", "llama-cpp-python")
RESULTS = Path(__file__).parents[1] / "results" / "gpu.md"


@click.command()
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path, exists=True), help="Where models and results may lie.")
@click.option("--seconds", type=float, default=float("inf"), help="Begin no row after so many seconds.")
def main(sections: tuple[str, ...], results: Path, folder: Path | None, seconds: float) -> None:
    """Measure all rows of the sections that are not in the results yet."""
    began = time.monotonic()
    methods.load()
    kept = Results(results, description())
    failed = 0
    with tempfile.TemporaryDirectory(prefix="fewbits-gpu-", dir=folder) as place:
        Path(place).chmod(0o711)  # the Postgres of the stack runs as another user
        bench = Bench(Path(place), devices("gpu")[0].name)
        for section in sections or SECTIONS:
            for name, measure in SECTIONS[section](bench, Path(place)):
                if kept.has(section, name) or time.monotonic() - began > seconds:
                    continue
                try:
                    kept.add(section, name, measure())
                except Exception:  # noqa: BLE001 - the other rows are worth having
                    failed += 1
                    traceback.print_exc()
    raise SystemExit(min(failed, 1))


def description() -> str:
    """Return the GPU's name and the versions of what was measured, in a line."""
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"{_gpu()}; Python {platform.python_version()}, {packages}"


def _gpu() -> str:
    ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    if shutil.which(ask[0]) is None:
        return "no GPU"
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
