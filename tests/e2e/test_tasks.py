"""A team's own questions from the command that uploads them to the gate that holds a result to them."""

import json
from pathlib import Path
from typing import Any

import pytest

from engines.domains import TEXT_SUFFIX, TEXTS
from tests.conftest import TINY_LLAMA
from tests.e2e.conftest import Up

pytestmark = pytest.mark.slow

ITEMS, WORDS = 60, 12


def questions() -> list[dict[str, Any]]:
    """Return how a text goes on, among the same words in other orders: what a model of such text can tell."""
    words = (TEXTS / f"prose{TEXT_SUFFIX}").read_text(encoding="utf-8").split()
    made = []
    for number in range(ITEMS):
        before, after = (words[begin : begin + WORDS] for begin in (2 * number * WORDS, (2 * number + 1) * WORDS))
        orders = [after[::-1], sorted(after)]
        orders.insert(number % 3, after)
        choices = [" ".join(order) for order in orders]
        made.append({"question": " ".join(before), "choices": choices, "answer": number % 3})
    return made


def upload(up: Up, file: Path, lines: list[dict[str, Any]]) -> str:
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    uploaded = up.cli("datasets", "upload", str(file), "--json")
    assert uploaded.returncode == 0, uploaded.stderr
    return str(json.loads(uploaded.stdout)["id"])


def test_a_result_is_held_to_a_teams_own_questions(up: Up, tmp_path: Path) -> None:
    choices = upload(up, tmp_path / "choices.jsonl", questions())
    prompts = [{"prompt": one["question"], "reference": one["choices"][one["answer"]]} for one in questions()[:8]]
    answers = upload(up, tmp_path / "answers.jsonl", prompts)
    asked = ("--task", choices, "--task", answers, "--task-items", "15", "--windows", "2", "--domain", "prose")
    gate = ("--gate", f"{choices}: accuracy >= 0.5", "--gate", f"{choices}: accuracy_drop <= 0.5")
    done = up.cli("submit", str(TINY_LLAMA), "gguf:Q8_0", *asked, *gate, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    with up.client() as client:
        job: dict[str, Any] = dict(client.job(done.stdout.split()[0]))
        report, facts = client.report(job["id"]), client.report_facts(job["id"])
    assert job["verdict"] == "passed"
    judged = job["result"]["tasks"]
    chosen, answered = judged[choices], judged[answers]
    assert (chosen["items"], answered["items"]) == (15 * 2 ** (job["result"]["looks"] - 1), 8)
    assert chosen["accuracy"]["value"] > 0.7  # a third would be chance
    lost = chosen["accuracy_drop"]
    assert chosen["baseline"]["accuracy"] == pytest.approx(chosen["accuracy"]["value"] + lost["value"])
    assert lost["low"] < lost["value"] < lost["high"]
    assert 0 < answered["rouge_l"]["value"] < 1
    assert answered["baseline"]["accuracy"] == 0
    assert answered["accuracy_drop"] == {"value": 0, "low": None, "high": None}  # there was nothing to lose
    assert f"none of the 8 items of {answers} full precision has any accuracy" in done.stdout + done.stderr
    assert [one["task"] for one in facts["tasks"]] == [*judged]
    assert choices in report
    assert "accuracy" in up.cli("show", job["id"]).stdout
