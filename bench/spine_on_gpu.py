"""Run the spine on a machine with an NVIDIA GPU and prove that the gpu pool's work was done there.

Usage: ``python -m bench.spine_on_gpu``. Prints the machine, the numbers of the demo and the devices that the worker
named in its log, and ends with 1 if one of them was not a GPU or a score is off by more than 0.5 %.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from demo.__main__ import MODEL, RECIPES, SOURCES
from demo.stack import Stack
from fewbits_client import Client
from tests.expected import PERPLEXITY, TOLERANCE


def main() -> int:
    """Run and return the exit status."""
    gpu = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607
    print(f"{gpu.partition(' (UUID')[0]}; Python {platform.python_version()}, torch {version('torch')}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fewbits-gpu-") as folder:
        Path(folder).chmod(0o711)  # Postgres's user passes through
        with Stack(Path(folder), SOURCES) as stack, Client(stack.url, stack.api_key) as client:
            submitted = [client.submit(MODEL.as_uri(), recipe) for recipe in RECIPES]
            jobs = [client.wait(job["id"]) for job in submitted]
        devices = worker_devices(Path(folder, "stack", "logs", "worker-gpu.log"))
    well = devices == {"cuda:0"}
    for job in jobs:
        result: Any = job["result"] or {}
        baseline = (result.get("baseline") or {}).get("perplexity") or {}
        measured = result.get("perplexity") or {}
        print(job["recipe"], job["status"], job["error"], "baseline", baseline, "result", measured)
        well &= agrees(baseline, PERPLEXITY["baseline"]) and agrees(measured, PERPLEXITY[job["recipe"]])
    print(f"devices of the gpu worker: {sorted(devices)}; {time.monotonic() - began:.1f} s in all")
    print("as expected" if well else "NOT as expected")
    return 0 if well else 1


def worker_devices(log: Path) -> set[str]:
    """Return the device of every execution that the worker's log says has started."""
    lines = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    return {line["device"] for line in lines if line.get("event") == "execution started"}


def agrees(measured: dict[str, float], expected: dict[str, float]) -> bool:
    """Return whether each score is that of llama.cpp's own tool, within the tolerance."""
    return all(abs(measured.get(domain, 0) / score - 1) <= TOLERANCE for domain, score in expected.items())


if __name__ == "__main__":
    sys.exit(main())
