"""What is said of a gate before any work is done: where it cannot pass, whatever is found."""

from typing import Any

import pytest

from engines.gates import LOOK_CONFIDENCE, Condition
from engines.intervals import binomial
from pipeline.judging import gate_warnings

TASK, CHAT, TEXT = "dataset_task", "dataset_chat", "dataset_text"
KINDS = {TASK: "multiple_choice", CHAT: "chat", TEXT: "text"}


def warnings(condition: dict[str, Any], items: int = 10_000, **asked: Any) -> list[str]:
    params = {
        "domains": ["prose", "summaries", CHAT, TEXT],
        "windows": 40,
        "tasks": [TASK],
        "task_items": 200,
        "datasets": {name: {"kind": kind} for name, kind in KINDS.items()},
        "gate": [condition],
        **asked,
    }
    return [*gate_warnings(params, {TASK: items, CHAT: items})]


@pytest.mark.parametrize(("limit", "needed"), [(0.01, 477), (0.02, 237), (0.05, 94)])
def test_a_drop_takes_as_many_items_as_prove_it_where_no_answer_differs(limit: float, needed: int) -> None:
    drop: dict[str, Any] = {"metric": "accuracy_drop", "max": limit}
    assert binomial(0, needed, LOOK_CONFIDENCE)[1] <= limit < binomial(0, needed - 1, LOOK_CONFIDENCE)[1]
    assert Condition(**drop).items_needed == needed
    assert warnings(drop, needed) == []
    (said,) = warnings(drop, needed - 1)
    assert f"cannot pass on {needed - 1} items" in said
    assert f"it takes {needed}" in said
    (few,) = warnings(drop, task_items=needed // 4)
    assert f"on {needed // 4 * 4} items" in few


def test_a_score_of_all_can_never_be_proven() -> None:
    assert "can never pass" in warnings({"metric": "accuracy", "min": 1.0})[0]
    assert warnings({"metric": "accuracy", "min": 0.9}) == []
    assert "where the result scores all: it takes 46" in warnings({"metric": "accuracy", "min": 0.9}, 45)[0]
    assert "it takes 5" in warnings({"metric": "accuracy", "min": 0.1}, 4)[0]


@pytest.mark.parametrize(
    ("domain", "windows", "items", "said"),
    [
        ("prose", 2, 10_000, "prose: perplexity_ratio <= 1.02 cannot pass on 8 items"),
        ("prose", 3, 10_000, None),
        (TEXT, 2, 10_000, "on 8 items"),
        ("summaries", 1, 10_000, "on 4 items"),
        ("summaries", 2, 10_000, None),
        (CHAT, 40, 4, "on 4 items, of which there is no interval. Bring a larger dataset."),
        (CHAT, 40, 5, None),
    ],
)
def test_few_items_have_no_interval(domain: str, windows: int, items: int, said: str | None) -> None:
    found = warnings({"metric": "perplexity_ratio", "domain": domain, "max": 1.02}, items, windows=windows)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_where_nothing_is_asked_nothing_is_said() -> None:
    assert warnings({"metric": "perplexity_ratio", "max": 1.02}) == []
    assert [*gate_warnings({"domains": ["prose"], "windows": 1}, {})] == []
