"""Sweeps in every state that a page can show, brought there by the verbs that the API and the workers use."""

from dataclasses import replace
from functools import partial
from typing import Any

from db import keys, sweeps
from db.session import Database
from db.sweeps import NewSweep
from tests.api.work import Workers
from tests.portal.stories import CHECKS, EVALUATION, SOURCE, new_job

RECIPES = ("gguf:Q8_0", "gguf:Q5_K_M", "gguf:Q4_K_M", "gguf:Q3_K_M", "gguf:Q2_K")
SIZES = (8.5, 5.7, 4.9, 3.9, 3.2)  # GB
LOSSES = (1.0008, 1.006, 1.012, 1.06, 1.27)
TERMS: dict[str, Any] = {
    "evaluation": EVALUATION,
    "gate": [],
    "metadata": {},
    "labels": ["nightly"],
    "priority": 0,
    "max_runtime_seconds": None,
    "max_pending_seconds": None,
    "max_attempts": None,
    "wait_for_capacity": False,
    "publish_to": None,
    "benchmark": None,
}
GATE: list[dict[str, Any]] = [{"metric": "perplexity_ratio", "domain": None, "max": 1.02, "min": None}]


def submit_sweep(database: Database, key: str, *, finished: int = 0, blocked: bool = False) -> str:
    """Submit a sweep as the API does, without its checks; bring its first recipes to their end; return its address."""
    team_id = database.run(partial(keys.authenticate, key=key))
    gate = GATE if blocked else []
    asked = [replace(new_job(recipe, gate), labels=("nightly",)) for recipe in RECIPES]
    new = NewSweep(SOURCE, None, {**TERMS, "source": SOURCE, "gate": gate})
    # One after the other, as a worker takes the steps of all jobs that are there in turns.
    at_first, later = (asked[:1], asked[1:]) if finished else (asked, [])
    sweep_id = database.run(partial(sweeps.submit, team_id=team_id, new=new, asked=at_first))
    if finished:
        work = Workers(database)
        finish_recipe(work, 0, blocked=blocked)
        for number in range(1, finished):
            database.run(partial(sweeps.extend, team_id=team_id, sweep_id=sweep_id, asked=[asked[number]]))
            finish_recipe(work, number, blocked=blocked)
        later = asked[finished:]
    if later:
        database.run(partial(sweeps.extend, team_id=team_id, sweep_id=sweep_id, asked=later))
    return f"/sweeps/{sweep_id}"


def measures_of(loss: float) -> dict[str, dict[str, float | None]]:
    """What is measured where so much perplexity is lost."""
    lost = loss - 1
    return {
        "perplexity_ratio": {"value": loss, "low": 1 + 0.8 * lost, "high": 1 + 1.3 * lost},
        "kl_divergence": {"value": lost * 1.5, "low": lost, "high": lost * 2},
        "agreement": {"value": 0.99 - lost, "low": 0.985 - lost, "high": 0.995 - lost},
    }


def finish_recipe(work: Workers, number: int, *, blocked: bool = False) -> None:
    """Bring the one job that is not over to its end, as that of a recipe of the sweep."""
    loss = LOSSES[number]
    work.do("fetch", {"model": {"weight_bytes": 16_300_000_000}})
    work.do("convert")
    work.do("quantize", {"size_bytes": int(SIZES[number] * 1e9), "bits_per_weight": SIZES[number]})
    work.do("reference", perplexity={"prose": 23.686, "code": 7.493})
    work.do("verify", {"checks": CHECKS})
    work.do(
        "evaluate",
        {"verdict": "blocked", "gate": [], "looks": 1} if blocked else None,
        perplexity={"prose": 23.686 * loss, "code": 7.493 * (1 + 1.2 * (loss - 1))},
        measures=measures_of(loss),
    )
    work.do("document")
