"""What a dataset may be: of one kind, told by its lines; and what is said of a line that is wrong."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from core.dataset_kinds import DatasetKind
from core.errors import InvalidRequest
from engines.datasets import (
    EXAMPLES,
    LINE_CHARACTERS_MAX,
    Code,
    Completion,
    Item,
    MultipleChoice,
    Reference,
    Seen,
    TextFormat,
    form_of,
    look_at,
    read_documents,
    read_items,
)

CHAT = {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "Hello"}]}
QUESTION: dict[str, Any] = {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1}
LINES: dict[DatasetKind, tuple[dict[str, Any], Item]] = {
    DatasetKind.DOCUMENTS: ({"text": "one"}, "one"),
    DatasetKind.CHAT: (CHAT, CHAT["messages"]),  # type: ignore[dict-item]  # it is a list of messages
    DatasetKind.COMPLETION: ({"prompt": "a", "completion": "b"}, Completion("a", "b")),
    DatasetKind.MULTIPLE_CHOICE: (QUESTION, MultipleChoice("2 + 2?", ("3", "4"), 1)),
    DatasetKind.REFERENCE: ({"prompt": "a", "reference": "b"}, Reference("a", "b")),
    DatasetKind.CODE: ({"prompt": "def f():\n", "tests": "f()"}, Code("def f():\n", "f()")),
}


def pieces(*lines: Any) -> list[bytes]:
    """JSONL, cut where no line ends."""
    whole = "\n".join(json.dumps(line) for line in lines).encode()
    return [whole[:7], whole[7:]]


def refusal(content: Sequence[bytes], form: TextFormat = "jsonl") -> str:
    with pytest.raises(InvalidRequest) as caught:
        look_at(content, form)
    return caught.value.message


def test_every_kind_but_plain_text_has_a_line() -> None:
    assert {*LINES} == {*EXAMPLES} == {*DatasetKind} - {DatasetKind.TEXT}
    assert {kind for kind in DatasetKind if form_of(kind) == "text"} == {DatasetKind.TEXT}


@pytest.mark.parametrize("kind", LINES)
def test_the_kind_is_told_by_the_lines_and_the_items_are_read(kind: DatasetKind) -> None:
    line, item = LINES[kind]
    content = pieces({**line, "url": "x"}, line)
    assert look_at(content, "jsonl") == Seen(kind, 2)
    assert list(read_items(content, "jsonl")) == [item, item]


@pytest.mark.parametrize("kind", LINES)
def test_the_example_of_a_kind_is_of_it(kind: DatasetKind) -> None:
    example = EXAMPLES[kind].replace('["…", "…"]', '["a", "b"]')  # two choices may not be the same
    assert look_at([example.encode()], "jsonl") == Seen(kind, 1)


def test_plain_text_is_one_item_whatever_is_in_it() -> None:
    content = pieces({"prompt": "a", "completion": "b"})
    assert look_at(content, "text") == Seen(DatasetKind.TEXT, 1)
    assert list(read_items(content, "text")) == [b"".join(content).decode()]


@pytest.mark.parametrize("other", [kind for kind in LINES if kind != DatasetKind.CHAT])
def test_a_line_of_another_kind_is_named_with_both(other: DatasetKind) -> None:
    message = refusal([b"\n", *pieces(CHAT, CHAT), b"\n\n", *pieces(LINES[other][0])])
    assert f"Line 5 is of kind {other}, and line 2 of kind chat. All lines of a dataset are of one kind" in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"content": "a"}, "Line 1 has not the fields of any kind"),
        ({"prompt": "a"}, '{"prompt": "…", "completion": "…"}'),
        ({"prompt": "a", "completion": "b", "reference": "c"}, "several kinds: completion and reference. Leave out"),
        ([CHAT], "Line 1 is no object"),
        ({"prompt": " ", "completion": "b"}, "The prompt of line 1 is empty"),
        ({"prompt": "a", "completion": ""}, "The completion of line 1 is empty"),
        ({"prompt": "a", "completion": ["b"]}, "The completion of line 1 is no string"),
        ({"prompt": "a", "completion": "b\0"}, "Line 1 has a NUL character"),
        ({"prompt": "a", "tests": " \n"}, "The tests of line 1 is empty"),
        ({"prompt": "a", "tests": ["f()"]}, "The tests of line 1 is no string"),
        ({"prompt": "a", "reference": "b", "tests": "c"}, "several kinds: reference and code. Leave out"),
        ({"prompt": "a", "reference": "\n"}, "The reference of line 1 is empty"),
        ({**QUESTION, "question": ""}, "The question of line 1 is empty"),
        ({**QUESTION, "choices": ["3"]}, "The choices of line 1 are no list of 2 to 26 texts"),
        ({**QUESTION, "choices": [str(n) for n in range(27)]}, "no list of 2 to 26 texts"),
        ({**QUESTION, "choices": "34"}, "no list of 2 to 26 texts"),
        ({**QUESTION, "choices": ["3", 4]}, "A choice of line 1 is no string"),
        ({**QUESTION, "choices": ["3", " "]}, "A choice of line 1 is empty"),
        ({**QUESTION, "choices": ["4", "4"]}, "hold one of them twice"),
        ({**QUESTION, "answer": 2}, "counted from 0 to 1"),
        ({**QUESTION, "answer": -1}, "is no place among its choices"),
        ({**QUESTION, "answer": True}, "is no place among its choices"),
        ({**QUESTION, "answer": 1.0}, "is no place among its choices"),
        ({**QUESTION, "answer": "B"}, '"choices": ["…", "…"], "answer": 0}'),
        ({"text": None}, "The text of line 1 is no string"),
        ({"messages": [{"role": "user", "content": None}]}, "A message of line 1"),
        ({"messages": [{"role": "us\ud800er", "content": "a"}]}, "half of a surrogate pair"),
        ({"text": "a" * LINE_CHARACTERS_MAX}, f"characters, and {LINE_CHARACTERS_MAX} may be in an item. Cut it"),
    ],
)
def test_a_line_that_is_wrong_is_named_with_what_is_wrong_and_what_it_may_be(line: Any, said: str) -> None:
    assert said in refusal(pieces(line))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "a"', "Line 2 is not JSON (Expecting ',' delimiter at character 14)"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "Line 2 holds a number of thousands of digits"),
        (b"[" * 100_000, "Line 2 is not JSON that can be read: it is nested too deeply"),
    ],
)
def test_a_line_that_cannot_be_parsed_is_told_of_in_our_words(line: bytes, said: str) -> None:
    assert said in refusal([b"\n", line, b"\n"])


def test_a_long_line_that_was_stored_by_an_earlier_version_is_read() -> None:
    text = "a" * LINE_CHARACTERS_MAX
    assert list(read_items(pieces({"text": text}), "jsonl")) == [text]


def test_choices_may_be_as_many_as_there_are_letters() -> None:
    line = {**QUESTION, "choices": [str(n) for n in range(26)], "answer": 25}
    assert look_at(pieces(line), "jsonl").kind == DatasetKind.MULTIPLE_CHOICE


def test_some_texts_may_be_empty_but_not_all() -> None:
    assert look_at(pieces({"text": ""}, {"text": "a"}), "jsonl") == Seen(DatasetKind.DOCUMENTS, 2)
    assert "There is no text" in refusal(pieces({"text": ""}, {"text": " "}))
    assert "There is no text" in refusal([])


def test_documents_of_earlier_releases_may_have_conversations_among_them() -> None:
    assert list(read_documents(pieces({"text": "a"}, CHAT), "jsonl")) == ["a", CHAT["messages"]]
    with pytest.raises(InvalidRequest, match="neither texts nor conversations"):
        list(read_documents(pieces(QUESTION), "jsonl"))
