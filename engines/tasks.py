"""Questions of a team's own datasets, put to a model and judged by EleutherAI's lm-evaluation-harness.

Each item has a score between 0 and 1 in each metric. What a model has answered is kept, so that work that is broken off
does not ask again. Refuses to know: what the scores of two models say beside each other.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.dataset_kinds import DatasetKind
from core.errors import ToolFailed
from engines import code_execution, datasets
from engines.datasets import MultipleChoice
from engines.own_domains import PIECE_BYTES, OwnDataset
from engines.runtimes import Runtime
from engines.tokenizer import load_tokenizer

HARNESS = "lm-evaluation-harness 0.4.13"
ANSWER_TOKENS_MAX = 256
ACCURACY = "accuracy"  # whether the answer is right
ROUGE_L = "rouge_l"  # the F measure of the longest common subsequence of words (Lin 2004)
SKIPS_BLANK_LINES = "skips_blank_lines"  # whether an answer begins with the first line in which there is something
END_MARK = r"\s*[.!?]$"
AFTER_A_FUNCTION = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint")
ANSWERS_NAME, SCORES_NAME = "answers.json", "tasks.json"

# By metric, what each item has scored.
TaskScores = Mapping[str, Sequence[float]]


class Answers:
    """What a model has answered so far.

    Args:
        folder: where it is kept.
        on_answer: called after each answer that the model was asked for.
    """

    def __init__(self, folder: Path, on_answer: Callable[[], None]) -> None:
        self._path = folder / ANSWERS_NAME
        self._on_answer = on_answer
        self._known: dict[str, Any] = json.loads(self._path.read_bytes()) if self._path.exists() else {}

    def answer(self, kind: str, asked: Sequence[Any], ask: Callable[[], Any]) -> Any:
        """Return the answer to a request, for which the model is asked once."""
        key = hashlib.sha256(json.dumps([kind, *asked]).encode()).hexdigest()
        if key not in self._known:
            self._known[key] = ask()
            self._on_answer()
        return self._known[key]

    def __len__(self) -> int:
        return len(self._known)

    def write(self) -> None:
        """Put what is known, if anything is, into the folder."""
        if not self._known:
            return
        hidden = self._path.with_name(f".{ANSWERS_NAME}")
        hidden.write_text(json.dumps(self._known), encoding="utf-8")
        hidden.replace(self._path)


@dataclass(frozen=True)
class TaskSet:
    """The tasks that a model is judged in.

    Attributes:
        source: the source's folder, for its tokenizer.
        datasets: by the name of each task; of one of the kinds in ``FOR_TASKS``.
        count: how many items of each there may be.
        code_execution: whether programs are run that a model has written.
    """

    source: Path
    datasets: Mapping[str, OwnDataset]
    count: int
    code_execution: bool = False

    def answers(self, count: int) -> int:
        """Return how many answers the first items of all tasks take."""
        items = (item for one in self.datasets.values() for item in _read(one, count))
        return sum(len(item.choices) if isinstance(item, MultipleChoice) else 1 for item in items)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.source)

    def score(self, name: str, count: int, runtime: Runtime, answers: Answers) -> TaskScores:
        """Return what the first items of a task score.

        How they are asked is the same for every count: full precision has been asked all that there may be.

        Args:
            name: of the task.
            count: at most this many; a smaller one gives what it has.
            runtime: the model, entered.
            answers: those that are known already.

        Raises:
            ModelUnsupported: the tokenizer makes nothing of a choice, or the chat template refuses a prompt.
            DoesNotFit: memory ran out.
            ToolFailed: programs are to be run that a model has written, and may or can not be.
        """
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.evaluator import evaluate

        from engines.harness import RuntimeModel

        tokenizer, kind = self._tokenizer, self.datasets[name].kind
        if kind == DatasetKind.CODE:
            self._require_code_execution()
        items = _read(self.datasets[name], self.count)
        form = _FORMS[kind](items)
        model = RuntimeModel(runtime, tokenizer, _ends(tokenizer, self.source), answers.answer)
        is_conversation = kind == DatasetKind.REFERENCE and tokenizer.chat_template is not None
        config = {"task": name, **_COMMON, "custom_dataset": _documents(items[:count]), **form}
        asked = ConfigurableTask(config=config)
        found = evaluate(model, {"tasks": {name: asked}}, bootstrap_iters=0, apply_chat_template=is_conversation)
        samples = sorted(found["samples"][name], key=lambda one: one["doc_id"])
        metrics = [one["metric"] for one in form["metric_list"]]
        return {_OURS.get(metric, metric): [float(one[metric]) for one in samples] for metric in metrics}

    def _require_code_execution(self) -> None:
        if not self.code_execution:
            raise ToolFailed("This worker runs no programs that a model wrote: FEWBITS_CODE_EXECUTION is not set.")
        code_execution.require()


NO_TASKS = TaskSet(Path(), {}, 0)
_OURS = {"acc": ACCURACY}  # by the harness's names, where they are others
_COMMON: Mapping[str, Any] = {"test_split": "test", "num_fewshot": 0}


def write_task_scores(folder: Path, scores: Mapping[str, TaskScores]) -> None:
    """Write what each item of each task has scored; nothing where there are no tasks."""
    if scores:
        (folder / SCORES_NAME).write_text(json.dumps(scores), encoding="utf-8")


def read_task_scores(folder: Path) -> dict[str, TaskScores]:
    """Return what ``write_task_scores`` has written; none where it has not."""
    path = folder / SCORES_NAME
    found: dict[str, TaskScores] = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def _read(task: OwnDataset, count: int) -> list[datasets.Item]:
    with task.path.open("rb") as file:
        items = datasets.read_items(iter(lambda: file.read(PIECE_BYTES), b""), "jsonl")
        return [*itertools.islice(items, count)]


def _ends(tokenizer: Any, source: Path) -> frozenset[int]:
    """Return the ids that end what a model says: of the tokenizer, and those that the model's folder names."""
    path = source / "generation_config.json"
    named = json.loads(path.read_bytes()).get("eos_token_id") if path.exists() else None
    ids = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return frozenset(one for one in ids if isinstance(one, int))


def _documents(items: Sequence[Any]) -> Callable[..., Any]:
    """Return what gives the harness its documents."""
    from datasets import Dataset

    made = {"test": Dataset.from_list([one._asdict() for one in items])}
    return lambda **_: made


def _multiple_choice(_: Sequence[Any]) -> dict[str, Any]:
    """Return a task as the harness has it for ARC: the likeliest choice, after the question, is the answer."""
    return {
        "output_type": "multiple_choice",
        "doc_to_text": lambda one: f"Question: {one['question']}\nAnswer:",
        "doc_to_choice": lambda one: one["choices"],
        "doc_to_target": lambda one: one["answer"],
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


def _reference(items: Sequence[Any]) -> dict[str, Any]:
    """Return a task of which the answers are generated: to the end of a line where no reference is longer."""
    is_of_lines = not any("\n" in one.reference.strip() for one in items)
    longest = max(len(one.reference.encode()) for one in items)
    return {
        **_generated(ACCURACY, ROUGE_L),
        "doc_to_target": lambda one: one["reference"],
        "process_results": _beside_reference,
        # A token is two bytes or more of most texts, and what is longer than a reference shall not look right.
        "generation_kwargs": {**_until(["\n"] if is_of_lines else [], longest // 2 + 8), SKIPS_BLANK_LINES: True},
    }


def _beside_reference(item: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
    """Return whether an answer is the reference, but for capitals and a mark at its end, and how alike they are."""
    from lm_eval.api.metrics import exact_match_fn
    from rouge_score.rouge_scorer import RougeScorer

    answer, reference = answers[0].strip(), item["reference"].strip()
    same = exact_match_fn(predictions=[answer], references=[reference], regexes_to_ignore=[END_MARK], ignore_case=True)
    alike = RougeScorer(["rougeL"], use_stemmer=True).score(reference, answer)["rougeL"].fmeasure
    return {ACCURACY: float(same["exact_match"]), ROUGE_L: float(alike)}


def _code(_: Sequence[Any]) -> dict[str, Any]:
    """Return a task of programs that a model is to finish, as the harness has HumanEval: at its first try."""
    return {
        **_generated(ACCURACY),
        "doc_to_target": lambda one: one["tests"],
        "process_results": _by_its_tests,
        "generation_kwargs": _until(AFTER_A_FUNCTION, ANSWER_TOKENS_MAX),
    }


def _by_its_tests(item: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
    return {ACCURACY: float(code_execution.passes(f"{item['prompt']}{answers[0]}\n{item['tests']}"))}


def _generated(*metrics: str) -> dict[str, Any]:
    return {
        "output_type": "generate_until",
        "doc_to_text": lambda one: one["prompt"],
        "metric_list": [{"metric": one, "aggregation": "mean", "higher_is_better": True} for one in metrics],
    }


def _until(stops: Sequence[str], tokens: int) -> dict[str, Any]:
    return {"until": [*stops], "max_gen_toks": min(ANSWER_TOKENS_MAX, tokens), "do_sample": False}


_FORMS: Mapping[DatasetKind, Callable[[Sequence[Any]], dict[str, Any]]] = {
    DatasetKind.MULTIPLE_CHOICE: _multiple_choice,
    DatasetKind.REFERENCE: _reference,
    DatasetKind.CODE: _code,
}
