"""The sweep as a user has it done: one request to a running stack."""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.sweep.by_hand import Score, Scores
from demo.stack import Stack
from fewbits_client import Client


def through_us(
    model: Path, folder: Path, levels: Sequence[str], texts: Sequence[str], windows: int
) -> tuple[float, Scores]:
    """Return the seconds from the request to its end, and what was measured of each level on each text."""
    data = folder / "stack"
    data.mkdir()
    with Stack(data, model.parent) as stack, Client(stack.url, stack.api_key) as client:
        begin = time.monotonic()
        recipes = [f"gguf:{level}" for level in levels]
        sweep = client.submit_sweep(model.as_uri(), recipes, domains=texts, windows=windows)
        sweep = client.wait_for_sweep(sweep["id"])
        seconds = time.monotonic() - begin
        jobs = [client.job(row["job"]) for row in sweep["rows"] or ()]
    scores: Scores = {}
    for level, job in zip(levels, jobs, strict=True):
        result = job["result"]
        if result is None or result["comparison"] is None:
            raise SystemExit(f"{job['recipe']} has {job['status']}: {job['error']}")
        for text, found in result["comparison"].items():
            divergence = found["kl_divergence"]
            scores[level, text] = Score(found["perplexity"], divergence["value"] if divergence else float("nan"))
    return seconds, scores
