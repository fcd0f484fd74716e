"""Tasks through lm-evaluation-harness: on tiny-llama-6m itself, and on a model whose answers are known."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from core.dataset_kinds import DatasetKind
from core.errors import ToolFailed
from engines import evaluation, tasks
from engines.context import Progress, Suspended
from engines.domains import ITEM_TOKENS, Item
from engines.evaluation import Asked
from engines.gates import Condition, Gate, expand
from engines.own_domains import OwnDataset
from engines.runtimes import IsOver, never, open_runtime
from engines.score_files import Reference
from engines.tasks import Answers, TaskSet
from engines.tokenizer import encode, load_tokenizer
from tests.engines import conftest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUESTIONS: list[dict[str, Any]] = [
    {"question": f"What is {n} and {n}?", "choices": [str(n), str(2 * n), str(n * n + 7)], "answer": 1}
    for n in range(3, 43)
]
PROMPTS = [{"prompt": f"Name number {n}:", "reference": f"The number {n}"} for n in range(40)]
MULTIPLE_CHOICE, REFERENCE = DatasetKind.MULTIPLE_CHOICE, DatasetKind.REFERENCE


class KnowingRuntime:
    """Finds the tokens of what it knows likeliest, and goes on from a prompt with what it says."""

    window_tokens = 512

    def __init__(self, tokenizer: Any, knows: Callable[[str], bool], says: str = "") -> None:
        self._tokenizer, self._knows, self._says = tokenizer, knows, says
        self.asked = 0

    def logits(self, item: Item) -> "NDArray[np.float32]":
        import numpy as np

        self.asked += 1
        rows = np.zeros((len(item.targets), 4096), dtype=np.float32)
        if self._knows(self._tokenizer.decode(item.ids)):
            rows[np.arange(len(rows)), item.targets] = 9
        return rows

    def continuation(self, prompt: Sequence[int], count: int, is_over: IsOver = never) -> list[int]:
        self.asked += 1
        chosen: list[int] = []
        for one in encode(self._tokenizer, self._says):
            chosen.append(one)
            if len(chosen) == count or is_over(chosen):
                break
        return chosen

    def text(self, ids: object) -> str:
        raise NotImplementedError


@pytest.fixture
def task_set(tiny: Path, tmp_path: Path) -> Callable[..., TaskSet]:
    def make(lines: Sequence[dict[str, Any]], kind: DatasetKind, count: int = 200) -> TaskSet:
        path = tmp_path / f"{kind}.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        return TaskSet(tiny, {"task": OwnDataset(path, kind)}, count)

    return make


def unasked() -> None:
    """What is called after each answer, and does nothing."""


RIGHT = [f"{one['question']}\nAnswer: {one['choices'][1]}" for one in QUESTIONS]


def right(text: str) -> bool:
    return any(text.endswith(one) for one in RIGHT)


def never_right(_: str) -> bool:
    return False


def test_multiple_choice_is_judged_by_the_likeliest_choice(task_set: Callable[..., TaskSet], tmp_path: Path) -> None:
    asked = task_set(QUESTIONS, MULTIPLE_CHOICE)
    tokenizer = load_tokenizer(asked.source)
    answers = Answers(tmp_path, unasked)
    knowing = KnowingRuntime(tokenizer, right)
    assert asked.score("task", 200, knowing, answers) == {"accuracy": [1.0] * 40}
    assert knowing.asked == len(answers) == asked.answers(200) == 120
    mistaken = KnowingRuntime(tokenizer, lambda text: not right(text))
    assert asked.score("task", 5, mistaken, Answers(tmp_path, unasked)) == {"accuracy": [0.0] * 5}


@pytest.mark.parametrize(
    ("says", "scores"),
    [
        (" The number 7", (1, 1)),
        ("\n\nthe NUMBER 7.\nAnd more of it", (1, 1)),
        (" The number 71", (0, 2 / 3)),
        (" A number of things", (0, 2 / 7)),
        ("", (0, 0)),
    ],
)
def test_an_answer_is_held_against_its_reference(
    says: str, scores: tuple[float, float], task_set: Callable[..., TaskSet], tmp_path: Path
) -> None:
    asked = task_set([PROMPTS[7]], REFERENCE)
    saying = KnowingRuntime(load_tokenizer(asked.source), never_right, says)
    found = asked.score("task", 200, saying, Answers(tmp_path, unasked))
    assert [*found] == ["accuracy", "rouge_l"]
    assert (found["accuracy"][0], found["rouge_l"][0]) == pytest.approx(scores)


def test_the_first_items_are_asked_as_all_of_them_are(task_set: Callable[..., TaskSet], tmp_path: Path) -> None:
    of_lines = {"prompt": "Say two lines:", "reference": "The first\nThe second"}
    asked = task_set([PROMPTS[0], of_lines], REFERENCE, 2)
    saying = KnowingRuntime(load_tokenizer(asked.source), never_right, " The number 0\nThe second")
    answers = Answers(tmp_path, unasked)
    first, both = (asked.score("task", count, saying, answers)["accuracy"] for count in (1, 2))
    assert first == both[:1] == [0]  # since one reference has two lines, no answer ends with its first
    assert saying.asked == 2


def test_what_has_been_answered_is_not_asked_again(
    tiny: Path, task_set: Callable[..., TaskSet], make_context: conftest.MakeContext
) -> None:
    asked = Asked(evaluation.read_all(tiny, ["prose"], 2), task_set(QUESTIONS, MULTIPLE_CHOICE))
    runtime = KnowingRuntime(load_tokenizer(tiny), right)
    reports: list[Progress] = []
    context = make_context(reports)
    left = iter([False] * 50 + [True])
    with pytest.raises(Suspended):
        evaluation.score_reference(runtime, asked, dataclasses.replace(context, must_leave=lambda: next(left)))
    evaluation.score_reference(runtime, asked, context)
    assert runtime.asked == 2 + 120
    assert [(one.done, one.total) for one in reports if one.unit == "answers"] == [(n, 120) for n in range(1, 121)]
    assert sorted(path.name for path in context.output.glob("*.json")) == [tasks.SCORES_NAME]
    assert Reference(context.output).tasks == {"task": {"accuracy": [1.0] * 40}}


def test_a_gate_looks_at_more_items_of_a_task(
    tiny: Path, task_set: Callable[..., TaskSet], make_context: conftest.MakeContext
) -> None:
    asked = Asked(evaluation.read_all(tiny, ["prose"], 2), task_set(QUESTIONS, MULTIPLE_CHOICE, 40))
    context = make_context()
    evaluation.score_reference(KnowingRuntime(load_tokenizer(tiny), right), asked, context)
    reference = Reference(context.output)

    def judged(knows: Callable[[str], bool], limit: float) -> evaluation.Judgement:
        runtime = KnowingRuntime(load_tokenizer(tiny), knows)
        gate = Gate((Condition("accuracy_drop", max=limit, task="task"),), 2, 10)
        return evaluation.score_result(runtime, asked, reference, make_context(), gate)

    same = judged(right, 0.3)
    assert same.gate is not None
    assert (same.gate.verdict, same.gate.look, same.tasks["task"].items) == ("passed", 2, 20)
    assert same.tasks["task"].baseline == {"accuracy": 1.0}
    # Where no item differs, there may still be some that would: an interval of forty items is not zero.
    strict = judged(right, 0.01)
    assert strict.gate is not None
    assert (strict.gate.verdict, strict.gate.look, strict.tasks["task"].items) == ("blocked", 3, 40)
    lost = judged(never_right, 0.3)
    assert lost.gate is not None
    assert (lost.gate.verdict, lost.gate.look) == ("blocked", 1)
    assert lost.tasks["task"].measures["accuracy_drop"].value > 0.5


def test_conditions_of_tasks_hold_where_they_are_measured() -> None:
    kinds = {"first": MULTIPLE_CHOICE, "second": REFERENCE}
    given = [
        {"metric": "accuracy_drop", "max": 0.01},
        {"metric": "rouge_l", "min": 0.4},
        {"metric": "accuracy", "min": 0.5, "task": "first"},
        {"metric": "agreement", "min": 0.9},
    ]
    found = [one.short for one in expand(given, ["prose"], kinds)]
    assert found == [
        "first: accuracy_drop <= 0.01",
        "second: accuracy_drop <= 0.01",
        "second: rouge_l >= 0.4",
        "first: accuracy >= 0.5",
        "prose: agreement >= 0.9",
    ]


PROGRAM = {"prompt": "def add(a, b):\n", "tests": "assert add(1, 2) == 3"}


@pytest.mark.slow
@pytest.mark.usefixtures("namespaces")
def test_a_program_begins_where_its_prompt_ends(task_set: Callable[..., TaskSet], tmp_path: Path) -> None:
    prompt = {**PROGRAM, "prompt": 'def add(a, b):\n    """Add."""'}
    asked = dataclasses.replace(task_set([prompt], DatasetKind.CODE), code_execution=True)
    saying = KnowingRuntime(load_tokenizer(asked.source), never_right, "\n    return a + b\n")
    assert asked.score("task", 1, saying, Answers(tmp_path, unasked)) == {"accuracy": [1]}


@pytest.mark.slow
@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    ("says", "is_right"),
    [
        ("    return a + b\n\n\ndef another():\n    raise ValueError\n", 1),
        ("    return a - b\n", 0),
        ("    return a +", 0),
        ("    return a + b\nimport sys; sys.exit(0)", 0),
        ("\n    return a + b\n", 1),
    ],
)
def test_a_program_is_judged_by_its_tests(
    says: str, is_right: float, task_set: Callable[..., TaskSet], tmp_path: Path
) -> None:
    asked = dataclasses.replace(task_set([PROGRAM], DatasetKind.CODE), code_execution=True)
    saying = KnowingRuntime(load_tokenizer(asked.source), never_right, says)
    assert asked.score("task", 1, saying, Answers(tmp_path, unasked)) == {"accuracy": [is_right]}


def test_no_program_is_run_unless_the_operator_allows_it(task_set: Callable[..., TaskSet], tmp_path: Path) -> None:
    asked = task_set([PROGRAM], DatasetKind.CODE)
    saying = KnowingRuntime(load_tokenizer(asked.source), never_right, "    return a + b\n")
    with pytest.raises(ToolFailed, match="FEWBITS_CODE_EXECUTION"):
        asked.score("task", 1, saying, Answers(tmp_path, unasked))
    assert saying.asked == 0


@pytest.mark.parametrize("written", ["safetensors", "gguf"])
def test_a_real_model_is_asked_in_each_runtime(
    written: Any, converted: Path, task_set: Callable[..., TaskSet], make_context: conftest.MakeContext
) -> None:
    asked, context = task_set(PROMPTS[:3], REFERENCE), make_context()
    folder = asked.source if written == "safetensors" else converted.parent
    with open_runtime(written, folder, context, ITEM_TOKENS) as runtime:
        found = asked.score("task", 3, runtime, Answers(context.checkpoint, unasked))
        short = runtime.continuation([5, 6, 7], 30, lambda chosen: len(chosen) == 4)
    assert len(short) == 4
    assert found["accuracy"] == [0.0] * 3
    assert all(0 <= one < 0.5 for one in found["rouge_l"])
