"""Run the whole stack on a machine with an NVIDIA GPU, and prove that the gpu pool's work was done there.

Usage: ``python -m bench.stack_on_gpu``. Prints the machine, what each recipe came to with its steps and their seconds,
and the devices that the worker named in its log. Ends with 1 if one of them was not a GPU, a job did not succeed, or a
score is not what it must be.
"""

import datetime as dt
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from demo.__main__ import MODEL, RECIPES, SOURCES, explain
from demo.expected import CLASSIC, LOSS_MAX, PERPLEXITY, TOLERANCE
from demo.stack import Stack
from fewbits_client import Client, Job


def main() -> int:
    """Run and return the exit status."""
    gpu = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "gptqmodel"))
    print(f"{gpu.partition(' (UUID')[0]}; Python {platform.python_version()}, {packages}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fewbits-gpu-") as folder:
        Path(folder).chmod(0o711)  # Postgres's user passes through
        with Stack(Path(folder), SOURCES) as stack, Client(stack.url, stack.api_key) as client:
            recipes: list[str | Mapping[str, Any]] = [*RECIPES, CLASSIC]
            submitted = [client.submit(MODEL.as_uri(), recipe) for recipe in recipes]
            jobs = [client.wait(job["id"]) for job in submitted]
            for job in jobs:
                show(client, job)
        devices = worker_devices(Path(folder, "stack", "logs", "worker-gpu.log"))
    well = devices == {"cuda:0"} and all(is_as_expected(job) for job in jobs)
    print(f"devices of the gpu worker: {sorted(devices)}; {time.monotonic() - began:.1f} s in all")
    print("as expected" if well else "NOT as expected")
    return 0 if well else 1


def show(client: Client, job: Job) -> None:
    """Print a job's numbers, its steps, and its losses by layer."""
    result: Any = job["result"] or {}
    print(f"\n{job['recipe']} {job['status']}")
    if job["status"] != "succeeded":
        explain(client, job)
    print("  parameters:", json.dumps(job["parameters"]))
    print(
        "  perplexity:", result.get("perplexity"), "full precision:", (result.get("baseline") or {}).get("perplexity")
    )
    print("  bits/weight:", result.get("bits_per_weight"), "bytes:", result.get("size_bytes"))
    print("  seconds:", {step["kind"]: seconds(step["started_at"], step["finished_at"]) for step in job["steps"]})
    for check in result.get("verification") or []:
        print(f"  {check['name']}: {check['detail']}")
    by_layer: dict[int, float] = {}
    for metric in client.metrics(job["id"]):
        by_layer[metric["layer"]] = by_layer.get(metric["layer"], 0) + metric["values"].get("loss", 0)
    if by_layer:
        print("  loss by layer:", {layer: round(loss, 6) for layer, loss in by_layer.items()})


def seconds(began: str | None, ended: str | None) -> float | None:
    """Return the time between two of the API's times."""
    if began is None or ended is None:
        return None
    return round((dt.datetime.fromisoformat(ended) - dt.datetime.fromisoformat(began)).total_seconds(), 1)


def worker_devices(log: Path) -> set[str]:
    """Return the device of every execution that the worker's log says has started."""
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    return {line["device"] for line in lines if line.get("event") == "execution started"}


def is_as_expected(job: Job) -> bool:
    """Return whether a job succeeded with the scores that its recipe must have."""
    result: Any = job["result"] or {}
    baseline, measured = (result.get("baseline") or {}).get("perplexity") or {}, result.get("perplexity") or {}
    if job["status"] != "succeeded" or not agrees(baseline, PERPLEXITY["baseline"]):
        return False
    if job["recipe"] in PERPLEXITY:
        return agrees(measured, PERPLEXITY[job["recipe"]])
    return all(measured[domain] / baseline[domain] - 1 <= most for domain, most in LOSS_MAX.items())


def agrees(measured: dict[str, float], expected: dict[str, float]) -> bool:
    """Return whether each score is that of llama.cpp's own tool, within the tolerance."""
    return all(abs(measured.get(domain, 0) / score - 1) <= TOLERANCE for domain, score in expected.items())


if __name__ == "__main__":
    sys.exit(main())
