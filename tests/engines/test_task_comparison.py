"""What is lost in tasks, with its interval: also where the true loss is just what a gate allows."""

from typing import TYPE_CHECKING

import pytest

from engines.gates import LOOK_CONFIDENCE, Condition
from engines.intervals import Estimate
from engines.task_comparison import draw_task

if TYPE_CHECKING:
    import numpy as np

LIMIT = 0.02
TRIALS = 300


def test_the_same_answers_are_told_as_no_loss_with_an_interval() -> None:
    scores = {"accuracy": [1.0] * 60 + [0.0] * 40, "rouge_l": [0.5] * 100}
    found = {name: one.at() for name, one in draw_task(scores, scores).items()}
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {"accuracy": 0.6, "accuracy_drop": 0, "rouge_l": 0.5, "rouge_l_drop": 0}
    )
    # 1 - 0.025 ** (1 / 100): what may be lost on items of which none was among a hundred
    unseen = pytest.approx(0.0362, abs=1e-4)
    drop = found["accuracy_drop"]
    assert drop.high == unseen
    assert drop.low is not None
    assert -drop.low == unseen
    accuracy = found["accuracy"]
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert accuracy.low == pytest.approx(0.497, abs=5e-3)
    assert accuracy.high == pytest.approx(0.697, abs=5e-3)


def test_few_items_have_no_interval() -> None:
    found = draw_task({"accuracy": [1.0, 1.0]}, {"accuracy": [1.0, 0.0]})
    assert found["accuracy_drop"].at() == Estimate(0.5, None, None)


def test_where_nothing_could_be_lost_nothing_is_decided() -> None:
    nothing = {"accuracy": [0.0] * 130}
    found = draw_task(nothing, nothing)
    assert found["accuracy_drop"].at(LOOK_CONFIDENCE) == Estimate(0, None, None)
    assert Condition("accuracy_drop", max=0.05).decide(found["accuracy_drop"].at(LOOK_CONFIDENCE)) == "undecided"
    assert found["accuracy"].at().high == pytest.approx(0.028, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.0), (0.05, 0.03), (0.2, 0.18)])
def test_a_result_just_at_the_limit_passes_in_few_trials(lost: float, gained: float) -> None:
    import numpy as np

    generator = np.random.default_rng(7)
    passed = sum(_passes(generator, lost, gained) for _ in range(TRIALS))
    assert passed <= 0.05 * TRIALS


def _passes(generator: "np.random.Generator", lost: float, gained: float) -> bool:
    """Return whether a gate lets a result pass at one of its three looks."""
    drawn, right = generator.random(800), generator.random(800) < 0.6
    loses, gains = drawn < lost, (drawn >= lost) & (drawn < lost + gained)
    reference = (loses | (right & ~gains)).astype(float).tolist()
    result = (gains | (right & ~loses)).astype(float).tolist()
    condition = Condition("accuracy_drop", max=LIMIT)
    for count in (200, 400, 800):
        found = draw_task({"accuracy": reference[:count]}, {"accuracy": result[:count]})
        decision = condition.decide(found["accuracy_drop"].at(LOOK_CONFIDENCE))
        if decision != "undecided":
            return decision == "passed"
    return False
