"""How long a sweep takes through fewbits and by hand, in one run on this machine: ``python -m bench.sweep``.

Six levels of GGUF, perplexity and divergence on prose and on code: by llama.cpp's tools alone, naively (all of it for
each level) and at best (converted once, full precision's answers once), and as one sweep of a running stack. What was
measured must be the same. The last line is JSON.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from bench.sweep.by_hand import ByHand, Scores
from bench.sweep.model import provide
from bench.sweep.through_us import through_us
from engines import methods

LEVELS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
TEXTS = ("prose", "code")
CACHE = Path.home() / ".cache" / "fewbits" / "models"


@click.command()
@click.option("--windows", type=click.IntRange(1), default=32, help="Windows of each text.")
@click.option("--levels", default=",".join(LEVELS), help="Which of llama.cpp's types.")
def main(windows: int, levels: str) -> None:
    """Measure all three, and print what each took and measured."""
    methods.load()
    chosen, threads = levels.split(","), len(os.sched_getaffinity(0))
    model = provide(CACHE)
    with tempfile.TemporaryDirectory() as folder:
        tools = ByHand(model, Path(folder), windows, threads)
        ours, measured = through_us(model, Path(folder), chosen, TEXTS, windows)
        best, by_hand = tools.at_best(chosen, TEXTS)
        naive, _ = tools.naive(chosen, TEXTS)
    print(f"SmolLM2-135M, rounded to Q4_1 before; {windows} windows of each of {', '.join(TEXTS)}; {threads} threads")
    print(f"{'level':<8} {'text':<6} {'perplexity':>10} {'by hand':>10} {'KL':>10} {'by hand':>10}")
    for (level, text), score in by_hand.items():
        found = measured[level, text]
        print(
            f"{level:<8} {text:<6} {found.perplexity:>10.4f} {score.perplexity:>10.4f} "
            f"{found.kl_divergence:>10.6f} {score.kl_divergence:>10.6f}"
        )
    print(json.dumps(_summary(ours, best, naive, _apart(measured, by_hand))))


def _apart(ours: Scores, theirs: Scores) -> dict[str, float]:
    """Return how far, at most, what was measured is apart."""
    pairs = [(ours[key], theirs[key]) for key in theirs]
    return {
        name: max(abs(getattr(one, name) / getattr(other, name) - 1) for one, other in pairs)
        for name in ("perplexity", "kl_divergence")
    }


def _summary(ours: float, best: float, naive: float, apart: dict[str, float]) -> dict[str, Any]:
    return {
        "ratio": round(ours / naive, 3),
        "ratio_best_by_hand": round(ours / best, 3),
        "seconds": {"fewbits": round(ours, 1), "best_by_hand": round(best, 1), "naive": round(naive, 1)},
        "apart_at_most": {name: round(share, 5) for name, share in apart.items()},
    }


if __name__ == "__main__":
    main()
