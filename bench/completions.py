"""Cuts the functions of ``engines/texts/code-completion_eval.jsonl`` out of the code that models are judged on.

    python -m bench.completions > engines/texts/code-completion_eval.jsonl

Each item is one run of lines of ``code_eval.txt``: what stands before a function, its head and, of every second
one, the first half of its body are the prompt; the rest of the body is the completion. Chosen are functions of which
little can be copied from the prompt, spread over the text, most of libraries, some of tests. They are shuffled,
so that the first few stand for all.
"""

import ast
import difflib
import itertools
import json
import random
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.domains import TEXTS
from engines.tokenizer import encode, load_tokenizer

MODEL = Path(__file__).parents[1] / "demo" / "tiny-llama-6m"
ITEMS, TESTS = 48, 12
TOKENS_MAX = 470  # of tiny-llama-6m, whose vocabulary is small
CONTEXT_TOKENS = 160  # before the function
COMPLETION_TOKENS = range(32, 150)
PROMPT_TOKENS_MIN = 60
COPIED_MAX = 0.5  # of the completion's lines
ALIKE_MAX = 0.6  # as difflib has it, of two completions
HEAD = re.compile(r"( *)def (\w+)")


@dataclass(frozen=True)
class Function:
    """A function in the text; lines are counted from 0, and an end is the line after the last.

    Attributes:
        begin: its ``def``.
        statements: where each statement of its body begins, but for a docstring.
        end: of its body.
    """

    name: str
    begin: int
    statements: Sequence[int]
    end: int


def functions(lines: Sequence[str]) -> Iterator[Function]:
    """Yield the functions that can be parsed, without what is nested in them being left out."""
    for begin, line in enumerate(lines):
        if found := HEAD.match(line):
            end = _end(lines, begin, len(found[1]))
            try:
                (parsed,) = ast.parse(textwrap.dedent("".join(lines[begin:end]))).body
            except (SyntaxError, ValueError):
                continue
            if isinstance(parsed, ast.FunctionDef):
                body = parsed.body[1:] if ast.get_docstring(parsed) else parsed.body
                yield Function(found[2], begin, [begin + one.lineno - 1 for one in body], end)


def _end(lines: Sequence[str], begin: int, indent: int) -> int:
    """Return where the lines end that are indented more than a ``def``; brackets of its head may stand under it."""
    end = begin + 1
    for number in range(begin + 1, len(lines)):
        stripped = lines[number].lstrip(" ")
        if stripped.strip() and len(lines[number]) - len(stripped) <= indent and not stripped.startswith(")"):
            break
        if stripped.strip():
            end = number + 1
    return end


def cut(lines: Sequence[str], function: Function, tokenizer: Any, *, from_half: bool) -> dict[str, str] | None:
    """Return the item that a function makes; None where it is too short, too long, or too much of it is copied."""
    if not function.statements:
        return None
    split = function.statements[len(function.statements) // 2 if from_half else 0]
    completion = "".join(lines[split : function.end])
    inside = "".join(lines[function.begin : split])
    used = len(encode(tokenizer, completion))
    if used not in COMPLETION_TOKENS:
        return None
    room = min(CONTEXT_TOKENS, TOKENS_MAX - used - len(encode(tokenizer, inside)))
    prompt = _before(lines, function.begin, room, tokenizer) + inside
    known = {line.strip() for line in prompt.splitlines()}
    body = [line.strip() for line in completion.splitlines() if line.strip()]
    copied = sum(line in known for line in body)
    if len(encode(tokenizer, prompt)) not in range(PROMPT_TOKENS_MIN, TOKENS_MAX - used) or copied > COPIED_MAX * len(
        body
    ):
        return None
    return {"prompt": prompt, "completion": completion}


def _before(lines: Sequence[str], begin: int, room: int, tokenizer: Any) -> str:
    """Return the lines before a function that fit; where there is a blank one among them, those behind the first."""
    best = first = begin
    while first > 0 and len(encode(tokenizer, "".join(lines[first - 1 : begin]))) <= room:
        first -= 1
        if not lines[first - 1].strip() and lines[first].strip():
            best = first
    return "".join(lines[first if best == begin else best : begin])


def choose(items: Sequence[dict[str, str]], count: int) -> list[dict[str, str]]:
    """Return so many items, spread evenly, of which no two end alike."""
    unlike: list[dict[str, str]] = []
    for item in items:
        ends = (difflib.SequenceMatcher(None, one["completion"], item["completion"]).ratio() for one in unlike)
        if all(ratio < ALIKE_MAX for ratio in ends):
            unlike.append(item)
    return [unlike[number * len(unlike) // count] for number in range(min(count, len(unlike)))]


def code_completions() -> list[dict[str, str]]:
    """Return the items, the same in each run."""
    lines = (TEXTS / "code_eval.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    tokenizer = load_tokenizer(MODEL)
    made: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    from_half = itertools.cycle([False, True])
    taken = 0  # no item begins before the one before it has ended
    for function in functions(lines):
        is_test = function.name.startswith("test")
        item = cut(lines, function, tokenizer, from_half=next(from_half))
        if item is not None and function.begin >= taken:
            made[is_test].append(item)
            taken = function.end
    chosen = [*choose(made[False], ITEMS - TESTS), *choose(made[True], TESTS)]
    random.Random(0).shuffle(chosen)  # noqa: S311 - repeatable on purpose
    return chosen


if __name__ == "__main__":
    for each in code_completions():
        print(json.dumps(each, ensure_ascii=False))
