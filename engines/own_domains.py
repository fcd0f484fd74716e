"""What a team's own dataset gives to be judged on: tokens, of which some are scored.

Of a plain text these are windows; of the other kinds each item is read at once, as far as a model is asked to read: a
document from its beginning, a prompt with its completion, a conversation with its last answer. Refuses to know: what a
model says of them.
"""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from core.dataset_kinds import DatasetKind
from core.errors import ModelUnsupported
from engines import datasets
from engines.datasets import Completion, Document, Message
from engines.domains import WINDOW_TOKENS, Item, answered, completion_if_any, windows_of
from engines.tokenizer import encode, encode_conversation, leading_bos, pieces

PIECE_BYTES = 2**20
ASSISTANT = "assistant"
PARAM = "evaluation.domains"


@dataclass(frozen=True)
class OwnDataset:
    """A team's own dataset, as it lies on this machine.

    Attributes:
        path: its file.
        kind: what its items are.
    """

    path: Path
    kind: DatasetKind


def read_own_items(tokenizer: Any, own: OwnDataset, count: int, longest: int) -> list[Item]:
    """Return the first items of a dataset; those of which the tokenizer makes nothing to score are passed over.

    Args:
        tokenizer: the source's.
        own: the dataset.
        count: at most this many; a shorter one gives what it has.
        longest: how many tokens of an item are read, at most; windows of a plain text have their own length.

    Raises:
        ModelUnsupported: the tokenizer makes not even one item of it, or the chat template refuses a conversation.
    """
    if own.kind == DatasetKind.TEXT:
        return _windows(tokenizer, own.path, count)
    with own.path.open("rb") as file:
        items = datasets.read_items(iter(lambda: file.read(PIECE_BYTES), b""), "jsonl")
        read = [*itertools.islice(_items(tokenizer, items, longest), count)]
    if not read:
        raise ModelUnsupported("This tokenizer makes nothing of the dataset that could be scored.", param=PARAM)
    return read


def _items(tokenizer: Any, items: Iterable[datasets.Item], longest: int) -> Iterator[Item]:
    for item in items:
        match item:
            case Completion(prompt, answer):
                made = completion_if_any(tokenizer, prompt, answer, longest)
                if made is not None:
                    yield made
            case str() | list():
                made = _document(tokenizer, item, longest)
                if made is not None:
                    yield made
            case _:
                raise ModelUnsupported("The dataset has questions or references, which tasks judge.", param=PARAM)


def _document(tokenizer: Any, document: Document, longest: int) -> Item | None:
    """Return a text from its beginning, or a conversation; None where there are less than two tokens in it."""
    if isinstance(document, str):
        return _from_beginning([*_begin(tokenizer), *_encode_first(tokenizer, io.StringIO(document), longest)], longest)
    last = max((place for place, one in enumerate(document) if one["role"] == ASSISTANT), default=0)
    if last:
        return _answer(tokenizer, document[:last], document[last], longest)
    # Nobody answers, so all that is said is scored.
    if tokenizer.chat_template is None:
        return _document(tokenizer, "\n\n".join(datasets.contents(document)), longest)
    return _from_beginning(encode_conversation(tokenizer, document, PARAM), longest)


def _answer(tokenizer: Any, before: Sequence[Message], answer: Message, longest: int) -> Item | None:
    """Return a conversation up to an answer, which alone is scored."""
    if tokenizer.chat_template is None:
        prompt = "".join(f"{message['content']}\n\n" for message in before)
        return completion_if_any(tokenizer, prompt, answer["content"], longest)
    asked = encode_conversation(tokenizer, before, PARAM, to_be_answered=True)
    whole = encode_conversation(tokenizer, [*before, answer], PARAM)
    begin = _begin(tokenizer) if whole[:1] == _begin(tokenizer) else []
    return answered(begin, asked[len(begin) :], whole[len(begin) :], longest)


def _from_beginning(ids: Sequence[int], longest: int) -> Item | None:
    return Item(ids[:longest], 1) if len(ids) > 1 else None


def _begin(tokenizer: Any) -> list[int]:
    bos = leading_bos(tokenizer)
    return [] if bos is None else [bos]


def _windows(tokenizer: Any, path: Path, count: int) -> list[Item]:
    """Return the first windows of a text, of which no more is tokenized than they take."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        return windows_of(_encode_first(tokenizer, file, count * WINDOW_TOKENS), leading_bos(tokenizer), count)


def _encode_first(tokenizer: Any, file: TextIO, count: int) -> list[int]:
    """Return the ids of a text, or at least so many of its first: no more is tokenized than they take."""
    ids: list[int] = []
    for piece in pieces(file):
        ids += encode(tokenizer, piece)
        if len(ids) >= count:
            break
    return ids
