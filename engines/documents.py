"""A text that a team has brought: plain, or JSONL with a document a line. Read in pieces, as it comes.

Refuses to know: tokenizers, and where the bytes are.
"""

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypedDict

from core.errors import InvalidRequest

TextFormat = Literal["text", "jsonl"]
WHAT_A_LINE_IS = 'Each must be an object such as {"text": "…"} or {"messages": [{"role": "user", "content": "…"}]}.'


class Message(TypedDict):
    """What one side says in a conversation."""

    role: str
    content: str


# A text, or a conversation.
Document = str | list[Message]


def read_documents(pieces: Iterable[bytes], form: TextFormat) -> Iterator[Document]:
    """Yield the documents of a text: plain text is one, JSONL has one for each line that is not blank.

    Args:
        pieces: its bytes, UTF-8, cut anywhere.
        form: how they are to be read.

    Raises:
        InvalidRequest: they are not of that form; the message names the line.
    """
    if form == "text":
        yield "".join(line for _, line in _lines(pieces))
        return
    for number, line in _lines(pieces):
        if line.strip():
            yield _document(line, number)


def count_documents(pieces: Iterable[bytes], form: TextFormat) -> int:
    """Return how many documents a text has.

    Raises:
        InvalidRequest: it is not of its form, or there is no text in it.
    """
    if form == "text":
        # By the line: the whole would be held in memory a few times over.
        count, has_text = 1, sum(not line.isspace() for _, line in _lines(pieces) if line) > 0
    else:
        count, has_text = 0, False
        for document in read_documents(pieces, form):
            count += 1
            has_text = has_text or any(text.strip() for text in contents(document))
    if not has_text:
        raise InvalidRequest("There is no text in what was sent.")
    return count


def contents(document: Document) -> Iterator[str]:
    """Yield the texts of a document."""
    if isinstance(document, str):
        yield document
    else:
        for message in document:
            yield message["content"]


def _lines(pieces: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Yield each line, its end included, with its number from 1; only a line feed ends one, as JSONL has it."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    number = 1
    parts: list[str] = []  # of the line that has no end yet
    for piece in _and_the_end(pieces):
        try:
            *ended, rest = decoder.decode(piece, final=not piece).split("\n")
        except UnicodeDecodeError as error:
            line = number + error.object[: error.start].count(b"\n")
            raise InvalidRequest(f"Line {line} is not UTF-8. Send the text in UTF-8.") from None
        for end in ended:
            yield number, _without_nul("".join([*parts, end, "\n"]), number)
            parts.clear()
            number += 1
        parts.append(rest)
    yield number, _without_nul("".join(parts), number)


def _and_the_end(pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield from (piece for piece in pieces if piece)
    yield b""


def _document(line: str, number: int) -> Document:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"Line {number} is not JSON ({error}). {WHAT_A_LINE_IS}") from None
    if not isinstance(value, dict) or ("text" in value) == ("messages" in value):
        raise InvalidRequest(f"Line {number} is no document. {WHAT_A_LINE_IS}")
    document = _text(value["text"], number) if "text" in value else _messages(value["messages"], number)
    for text in contents(document):
        _without_nul(text, number)
    return document


def _text(value: Any, number: int) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"The text of line {number} is no string. {WHAT_A_LINE_IS}")
    return value


def _messages(value: Any, number: int) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"The messages of line {number} are no list, or an empty one. {WHAT_A_LINE_IS}")
    messages = []
    for one in value:
        known = one if isinstance(one, dict) else {}
        role, content = known.get("role"), known.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise InvalidRequest(f"A message of line {number} has no role or no content as text. {WHAT_A_LINE_IS}")
        messages.append(Message(role=role, content=content))
    return messages


def _without_nul(text: str, number: int) -> str:
    """Return a text without what no text has, and no tokenizer takes."""
    if "\0" in text or not (text.isascii() or text.encode("utf-8", "ignore").decode() == text):
        raise InvalidRequest(f"Line {number} has a NUL character, or half of a surrogate pair. Remove it.")
    return text
