"""What of a team's own dataset is read by a model, and which of its tokens are scored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.dataset_kinds import FOR_PERPLEXITY, DatasetKind
from core.errors import InvalidRequest, ModelUnsupported
from engines import own_domains
from engines.domains import CONTEXT_TOKENS, TEXTS, Item, cut_windows
from engines.own_domains import OwnDataset, read_own_items
from engines.tokenizer import encode, load_tokenizer
from tests.engines.conftest import add_bos_and_chat_template, edit_json

Read = Callable[..., list[Item]]
QUESTION = {"role": "user", "content": "How many bits are in a byte?"}
ANSWER = {"role": "assistant", "content": "There are eight of them."}
THANKS = {"role": "user", "content": "Thank you."}
LONGEST = 600
LONG = "A line that is said again and again. " * 200


@pytest.fixture(params=["plain", "with BOS and template"])
def tokenizer(request: pytest.FixtureRequest, tiny_copy: Path) -> Any:
    if request.param != "plain":
        add_bos_and_chat_template(tiny_copy)
    return load_tokenizer(tiny_copy)


@pytest.fixture
def read(tokenizer: Any, tmp_path: Path) -> Read:
    """Return a function that reads the items of a dataset of the lines that it is given."""

    def read(kind: DatasetKind, *lines: dict[str, Any], count: int = 100) -> list[Item]:
        path = tmp_path / "dataset"
        path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
        return read_own_items(tokenizer, OwnDataset(path, kind), count, LONGEST)

    return read


def begins(tokenizer: Any) -> list[int]:
    return [] if tokenizer.chat_template is None else [0]


def scored(tokenizer: Any, item: Item) -> str:
    text: str = tokenizer.decode(item.targets)
    return text


def test_windows_of_a_text_are_those_of_the_same_built_in_one(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (TEXTS / "prose_eval.txt").read_text(encoding="utf-8")[:20_000]
    (tmp_path / "dataset").write_text(text, encoding="utf-8")
    own = OwnDataset(tmp_path / "dataset", DatasetKind.TEXT)
    windows = read_own_items(tokenizer, own, 4, LONGEST)
    assert windows == cut_windows(tokenizer, text, 4)
    assert all(window.follows for window in windows)
    # Of a long text no more is read than is asked for, in pieces that end where lines do.
    monkeypatch.setattr("engines.tokenizer.PIECE_CHARACTERS", 700)
    seen: list[str] = []

    def watched(_: Any, piece: str) -> list[int]:
        seen.append(piece)
        return encode(tokenizer, piece)

    monkeypatch.setattr(own_domains, "encode", watched)
    assert len(read_own_items(tokenizer, own, 1, LONGEST)) == 1
    assert text.startswith("".join(seen))
    assert 1 < len(seen) < 5
    assert all(piece.endswith("\n") for piece in seen)


def test_a_document_is_read_from_its_beginning_and_scored_but_for_what_nothing_stands_before(
    read: Read, tokenizer: Any
) -> None:
    short, long = read(DatasetKind.DOCUMENTS, {"text": "Two words."}, {"text": ""}, {"text": LONG})
    ids = encode(tokenizer, "Two words.")
    assert short == Item([*begins(tokenizer), *ids], 1)
    assert (len(long.ids), long.first) == (LONGEST, 1)
    assert long.ids == [*begins(tokenizer), *encode(tokenizer, LONG)][:LONGEST]


def test_of_a_completion_nothing_of_the_prompt_is_scored(read: Read, tokenizer: Any) -> None:
    short, long = read(
        DatasetKind.COMPLETION,
        {"prompt": "Eight bits are", "completion": " a byte."},
        {"prompt": LONG, "completion": " The end."},
    )
    assert scored(tokenizer, short) == " a byte."
    assert short.ids == [*begins(tokenizer), *encode(tokenizer, "Eight bits are a byte.")]
    assert scored(tokenizer, long) == " The end."
    assert len(long.ids) == LONGEST
    assert list(long.ids[: len(begins(tokenizer))]) == begins(tokenizer)


def test_a_completion_that_becomes_one_token_with_its_prompt_is_passed_over(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "dataset"
    lines = [{"prompt": "a", "completion": "b"}, {"prompt": "Eight bits are", "completion": " a byte."}]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    without_bos = load_tokenizer(tiny)
    assert len(encode(without_bos, "ab")) == 1
    (item,) = read_own_items(without_bos, OwnDataset(path, DatasetKind.COMPLETION), 100, LONGEST)
    assert scored(without_bos, item) == " a byte."


def test_of_a_conversation_the_last_answer_is_scored(read: Read, tokenizer: Any) -> None:
    first = {"role": "assistant", "content": "Ask me."}
    item, same = read(
        DatasetKind.CHAT, {"messages": [first, QUESTION, ANSWER]}, {"messages": [first, QUESTION, ANSWER, THANKS]}
    )
    assert item == same
    assert scored(tokenizer, item).endswith(ANSWER["content"])
    before = tokenizer.decode(item.ids[: item.first])
    assert QUESTION["content"] in before
    assert ANSWER["content"] not in before
    assert "How" not in scored(tokenizer, item)
    if tokenizer.chat_template is not None:
        assert before.startswith("<|assistant|>Ask me.<|user|>")


def test_where_nobody_answers_all_that_is_said_is_scored(read: Read, tokenizer: Any) -> None:
    (item,) = read(DatasetKind.CHAT, {"messages": [QUESTION, THANKS]})
    assert item.first == 1
    assert THANKS["content"] in scored(tokenizer, item)


def test_the_first_items_are_read_and_no_more(read: Read) -> None:
    lines = [{"text": f"Document {number}."} for number in range(5)]
    assert read(DatasetKind.DOCUMENTS, *lines, count=3) == read(DatasetKind.DOCUMENTS, *lines[:3])


def test_nothing_to_score_is_an_error_that_says_so(read: Read) -> None:
    with pytest.raises(ModelUnsupported, match="nothing of the dataset"):
        read(DatasetKind.DOCUMENTS, {"text": ""})


def test_a_template_that_refuses_a_conversation_is_named(tiny_copy: Path, tmp_path: Path) -> None:
    add_bos_and_chat_template(tiny_copy)
    edit_json(tiny_copy / "tokenizer_config.json", chat_template="{{ raise_exception('roles must alternate') }}")
    (tmp_path / "dataset").write_text(json.dumps({"messages": [QUESTION, THANKS]}))
    own = OwnDataset(tmp_path / "dataset", DatasetKind.CHAT)
    with pytest.raises(ModelUnsupported, match="roles must alternate") as caught:
        read_own_items(load_tokenizer(tiny_copy), own, 1, LONGEST)
    assert caught.value.param == "evaluation.domains"


def test_every_kind_that_perplexity_is_measured_on_can_be_read(read: Read) -> None:
    lines: dict[DatasetKind, dict[str, Any]] = {
        DatasetKind.DOCUMENTS: {"text": "Two words."},
        DatasetKind.CHAT: {"messages": [QUESTION, ANSWER]},
        DatasetKind.COMPLETION: {"prompt": "a", "completion": " b"},
        DatasetKind.TEXT: {"text": LONG},
    }
    assert {*lines} == {*FOR_PERPLEXITY}
    for kind, line in lines.items():
        items = read(kind, line)
        assert all(0 < item.first < len(item.ids) <= LONGEST for item in items)
        assert (items[0].first == CONTEXT_TOKENS) is (kind == DatasetKind.TEXT)
    with pytest.raises((InvalidRequest, ModelUnsupported), match="tasks"):
        read(DatasetKind.MULTIPLE_CHOICE, {"question": "a", "choices": ["b", "c"], "answer": 0})


def test_of_a_text_without_lines_no_more_is_held_than_is_asked_for(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "one two three four " * 4000
    monkeypatch.setattr("engines.tokenizer.PIECE_CHARACTERS", 5000)
    monkeypatch.setattr("engines.domains.PIECE_CHARACTERS", 5000)
    longest = 0

    def watched(_: Any, piece: str) -> list[int]:
        nonlocal longest
        longest = max(longest, len(piece))
        return encode(tokenizer, piece)

    monkeypatch.setattr(own_domains, "encode", watched)
    monkeypatch.setattr("engines.domains.encode", watched)
    for kind, line in (
        (DatasetKind.TEXT, text),
        (DatasetKind.DOCUMENTS, json.dumps({"text": text})),
        (DatasetKind.COMPLETION, json.dumps({"prompt": text, "completion": text})),
    ):
        (tmp_path / "dataset").write_text(line, encoding="utf-8")
        (item,) = read_own_items(tokenizer, OwnDataset(tmp_path / "dataset", kind), 1, LONGEST)
        assert len(item.ids) == (512 if kind == DatasetKind.TEXT else LONGEST)
    assert longest == 2 * 5000
