"""The whole stack on a machine with a GPU: a job through the API to its end, its GPU work done there."""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.gpu.steps import Bench
from demo.__main__ import MODEL, SOURCES
from demo.expected import LOSS_MAX, PERPLEXITY, TOLERANCE
from demo.stack import Stack
from fewbits_client import Client, Job

RECIPES = ("gptq:4bit-g128", "gguf:Q4_K_M")


def jobs(_: Bench, folder: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """`fewbitsd up`, and one job of GPTQ and one of GGUF through its API."""
    for recipe in RECIPES:
        yield recipe, partial(run, recipe, folder)


def run(recipe: str, folder: Path) -> dict[str, Any]:
    """Start the stack, submit a job, wait for its end and stop the stack.

    Raises:
        RuntimeError: the job did not succeed with the scores that it must have.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        Path(place).chmod(0o711)  # Postgres's user passes through
        with Stack(Path(place), SOURCES) as stack, Client(stack.url, stack.api_key) as client:
            job = client.wait(client.submit(MODEL.as_uri(), recipe)["id"])
            attempts = list(client.attempts(job["id"]))
        seen = worker_devices(Path(place, "stack", "logs", "worker-gpu.log"))
    result: Any = job["result"] or {}
    if not is_as_expected(job):
        raise RuntimeError(f"{recipe} is not as it must be: {json.dumps(job)}")
    return {
        "status": job["status"],
        **{domain: result["perplexity"][domain] for domain in ("prose", "code")},
        "bytes": result["size_bytes"],
        "devices": {attempt["step"]: attempt["device"] for attempt in attempts},
        "devices of the gpu worker": sorted(seen),
        "checks": [check["name"] for check in result["verification"] if check["passed"]],
    }


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
