"""The built-in prompts with completions: true to the texts that they were cut from, and short enough for one window."""

from pathlib import Path

import pytest

from bench import completions
from core.dataset_kinds import DatasetKind
from engines.datasets import Completion, look_at, read_items
from engines.domains import TEXTS
from engines.tokenizer import encode, load_tokenizer

NAMES = ("code-completion", "summaries")
ITEMS = 48
TOKENS_MAX = 480  # of the smallest vocabulary at hand; a window has 512
SUMMARY = "\n\nSummary:"


def read(name: str) -> list[Completion]:
    content = (TEXTS / f"{name}_eval.jsonl").read_bytes()
    assert look_at([content], "jsonl") == (DatasetKind.COMPLETION, ITEMS)
    return [item for item in read_items([content], "jsonl") if isinstance(item, Completion)]


def text(name: str) -> str:
    return (TEXTS / f"{name}_eval.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_items_fit_into_a_window_and_each_has_enough_to_score(name: str, tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    for item in read(name):
        prompt, completion = len(encode(tokenizer, item.prompt)), len(encode(tokenizer, item.completion))
        assert prompt + completion <= TOKENS_MAX, item
        assert prompt >= 60, item
        assert completion >= 25, item


@pytest.mark.parametrize("name", NAMES)
def test_no_two_items_are_the_same_and_none_holds_its_answer(name: str) -> None:
    items = read(name)
    assert len({item.prompt for item in items}) == len({item.completion for item in items}) == ITEMS
    assert not [item for item in items if item.completion.strip() in item.prompt]


def test_functions_are_runs_of_lines_of_the_code() -> None:
    code = text("code")
    for item in read("code-completion"):
        assert code.count(item.prompt + item.completion) == 1
        assert item.prompt.endswith("\n")
        assert "def " in item.prompt


def test_summaries_are_short_and_follow_a_passage_of_the_prose() -> None:
    prose = text("prose")
    for item in read("summaries"):
        passage = item.prompt.removesuffix(SUMMARY)
        assert passage != item.prompt
        assert prose.count(passage) == 1
        assert 110 <= len(passage.split()) <= 250
        assert item.completion.startswith(" ")
        assert item.completion.endswith(".")
        assert 20 <= len(item.completion.split()) <= 55


@pytest.mark.slow
def test_functions_are_cut_as_the_script_says() -> None:
    assert [item._asdict() for item in read("code-completion")] == completions.code_completions()
