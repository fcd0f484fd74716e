"""Eight recipes over four methods on a real model through the public API: the table, the Pareto set, what to ship."""

import json
from collections import Counter
from typing import Any

import psycopg
import pytest

from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import Up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

RECIPES = [
    *("gguf:Q8_0", "gguf:Q5_K_M", "gguf:Q4_K_M+imatrix", "gguf:Q2_K"),
    *("gptq:8bit-g128", "gptq:4bit-g128", "awq:4bit-g128", "int8:w8a16"),
]
DOMAINS = ["prose", "code"]
RATIO_MAX, AGREEMENT_MIN = 1.02, 0.95
EXECUTIONS = """
    SELECT steps.kind, count(DISTINCT steps.execution_id) FROM steps JOIN jobs ON jobs.id = steps.job_id
    WHERE jobs.sweep_id = %s GROUP BY steps.kind
"""


@pytest.fixture(scope="module")
def swept(up: Up) -> dict[str, Any]:
    with up.client() as client:
        made = client.submit_sweep(TINY_LLAMA.as_uri(), RECIPES, domains=DOMAINS, windows=16)
        return dict(client.wait_for_sweep(made["id"]))


def executions(up: Up, sweep_id: str) -> Counter[str]:
    with psycopg.connect(up.database_url) as connection:
        return Counter(dict(connection.execute(EXECUTIONS, [sweep_id]).fetchall()))


def losses(row: dict[str, Any]) -> list[float]:
    return [row["comparison"][domain]["perplexity_ratio"]["value"] for domain in DOMAINS]


def is_good_enough(row: dict[str, Any]) -> bool:
    found = [row["comparison"][domain] for domain in DOMAINS]
    return all(
        one["perplexity_ratio"]["high"] <= RATIO_MAX and one["agreement"]["low"] >= AGREEMENT_MIN for one in found
    )


def test_each_recipe_has_a_row_with_what_was_measured(swept: dict[str, Any]) -> None:
    assert (swept["status"], swept["jobs"]) == ("succeeded", {"succeeded": 8})
    assert [row["recipe"] for row in swept["rows"]] == RECIPES
    for row in swept["rows"]:
        for domain in DOMAINS:
            for metric in ("perplexity_ratio", "kl_divergence", "agreement"):
                measured = row["comparison"][domain][metric]
                assert measured["low"] <= measured["value"] <= measured["high"], (row["recipe"], domain, metric)
    sizes = {row["recipe"]: row["size_bytes"] for row in swept["rows"]}
    assert sizes["gguf:Q2_K"] < sizes["gguf:Q4_K_M+imatrix"] < sizes["gguf:Q5_K_M"] < sizes["gguf:Q8_0"]
    lost = {row["recipe"]: losses(row) for row in swept["rows"]}
    assert max(lost["gguf:Q8_0"]) < min(lost["gguf:Q2_K"])


def test_the_pareto_set_is_what_no_other_beats(swept: dict[str, Any]) -> None:
    points = {row["job"]: (row["size_bytes"], *losses(row)) for row in swept["rows"]}
    best = {
        job
        for job, point in points.items()
        if not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points.values()
        )
    }
    assert {row["job"] for row in swept["rows"] if row["pareto"]} == best
    assert next(row["pareto"] for row in swept["rows"] if row["recipe"] == "gguf:Q2_K")  # the smallest


def test_the_smallest_that_is_good_enough_is_recommended(swept: dict[str, Any]) -> None:
    recommendation = swept["recommendation"]
    good = [row for row in swept["rows"] if is_good_enough(row)]
    assert good, [(row["recipe"], losses(row)) for row in swept["rows"]]
    smallest = min(good, key=lambda row: row["size_bytes"])
    assert (recommendation["job"], recommendation["recipe"]) == (smallest["job"], smallest["recipe"])
    assert not recommendation["provisional"]
    assert recommendation["reason"].startswith(f"{smallest['recipe']} (")
    assert (
        "is the smallest of 8 results that keeps prose and code perplexity within 2 % (at most +"
        in (recommendation["reason"])
    )


def test_what_they_have_in_common_is_done_once(up: Up, swept: dict[str, Any]) -> None:
    done = executions(up, swept["id"])
    shared = {kind: done[kind] for kind in ("fetch", "convert", "calibrate", "imatrix", "reference")}
    assert shared == {"fetch": 1, "convert": 1, "calibrate": 1, "imatrix": 1, "reference": 1}
    assert [done[kind] for kind in ("quantize", "verify", "evaluate")] == [8, 8, 8]


def test_a_finished_sweep_takes_one_more(up: Up, swept: dict[str, Any]) -> None:
    before = executions(up, swept["id"])
    answer = up.cli("sweep", "extend", swept["id"], "gguf:Q6_K", "--wait", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    extended = json.loads(answer.stdout)
    assert extended["jobs"] == {"succeeded": 9}
    assert executions(up, swept["id"]) - before == Counter(quantize=1, verify=1, evaluate=1, document=1)
    shown = up.cli("sweep", "show", swept["id"]).stdout
    assert extended["recommendation"]["reason"] in shown
    assert all(recipe in shown for recipe in [*RECIPES, "gguf:Q6_K"])
