"""A dataset that a team has brought: one plain text, or JSONL with an item a line. Read in pieces, as it comes.

Refuses to know: tokenizers, and where the bytes are.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict

from core.dataset_kinds import DatasetKind
from core.errors import InvalidRequest

TextFormat = Literal["text", "jsonl"]
OWN_ID = "(?:dataset|text)_[0-9a-z]{26}"  # of a dataset of a team; earlier releases called them texts
CHOICES_MIN, CHOICES_MAX = 2, 26  # an answer is given by a letter
LINE_CHARACTERS_MAX = 2**21  # of JSONL that comes: parsed, a line may take thirty times as much memory


class Message(TypedDict):
    """What one side says in a conversation."""

    role: str
    content: str


# A text, or a conversation.
Document = str | list[Message]


class Completion(NamedTuple):
    """A prompt, and what should follow it."""

    prompt: str
    completion: str


class MultipleChoice(NamedTuple):
    """A question, and the place of the right answer among the choices, from 0."""

    question: str
    choices: tuple[str, ...]
    answer: int


class Reference(NamedTuple):
    """A prompt, and an answer that a model's own is compared with."""

    prompt: str
    reference: str


class Code(NamedTuple):
    """The beginning of a Python program, and what stands after its end and raises nothing if the program is right."""

    prompt: str
    tests: str


Item = Document | Completion | MultipleChoice | Reference | Code


class Seen(NamedTuple):
    """What a dataset turned out to be: its kind, and how many items it has."""

    kind: DatasetKind
    items: int


def is_own(name: str) -> bool:
    """Return whether the name of a text is the id of a team's own dataset."""
    return re.fullmatch(OWN_ID, name) is not None


def form_of(kind: DatasetKind) -> TextFormat:
    """Return how a dataset of a kind is to be read."""
    return "text" if kind == DatasetKind.TEXT else "jsonl"


def look_at(pieces: Iterable[bytes], form: TextFormat) -> Seen:
    """Return what a dataset is, once all of it is known to be good.

    Args:
        pieces: its bytes, UTF-8, cut anywhere.
        form: how they are to be read; the kind of JSONL is that of its first line, and every other must be of it, too.

    Raises:
        InvalidRequest: it is not of its form, its lines are of several kinds, or there is no text in it.
    """
    if form == "text":
        # By the line: the whole would be held in memory a few times over.
        kind, count = DatasetKind.TEXT, 1
        has_text = sum(not line.isspace() for _, line in _lines(pieces) if line) > 0
    else:
        kind, count, has_text = _look_at_lines(pieces)
    if not has_text:
        raise InvalidRequest("There is no text in what was sent.")
    return Seen(kind, count)


def read_items(pieces: Iterable[bytes], form: TextFormat) -> Iterator[Item]:
    """Yield the items of a dataset: plain text is one, JSONL has one for each line that is not blank.

    Raises:
        InvalidRequest: the bytes are not of that form; the message names the line.
    """
    if form == "text":
        yield "".join(line for _, line in _lines(pieces))
        return
    for _, _, item in _items(pieces):
        yield item


def read_documents(pieces: Iterable[bytes], form: TextFormat) -> Iterator[Document]:
    """Yield the items of a dataset of texts or conversations, or of both: those of earlier releases may have both.

    Raises:
        InvalidRequest: it is of another kind, or not of its form.
    """
    for item in read_items(pieces, form):
        if not isinstance(item, str | list):
            raise InvalidRequest("The dataset has neither texts nor conversations.")
        yield item


def contents(document: Document) -> Iterator[str]:
    """Yield the texts of a document."""
    if isinstance(document, str):
        yield document
    else:
        for message in document:
            yield message["content"]


def _look_at_lines(pieces: Iterable[bytes]) -> tuple[DatasetKind, int, bool]:
    """Return the kind of all lines, their count, and whether there is text in any."""
    kind, count, has_text = DatasetKind.DOCUMENTS, 0, False
    for number, line, item in _items(pieces, LINE_CHARACTERS_MAX):
        if count == 0:
            kind, first = line.kind, number
        elif line.kind != kind:
            raise InvalidRequest(
                f"Line {number} is of kind {line.kind}, and line {first} of kind {kind}. All lines of a dataset are of "
                "one kind: send those of another kind as another dataset."
            )
        count += 1
        has_text = has_text or not isinstance(item, str | list) or any(text.strip() for text in contents(item))
    return kind, count, has_text


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


def _without_nul(text: str, number: int) -> str:
    """Return a text without what no text has, and no tokenizer takes."""
    if "\0" in text or not (text.isascii() or text.encode("utf-8", "ignore").decode() == text):
        raise InvalidRequest(f"Line {number} has a NUL character, or half of a surrogate pair. Remove it.")
    return text


class _Value:
    """What a line of JSONL holds; each reading of it names the line and the field where that is not what it must be."""

    def __init__(self, fields: Mapping[str, Any], number: int, example: str) -> None:
        self._fields, self._number, self._example = fields, number, example

    def refuse(self, what: str) -> InvalidRequest:
        """Return the error of this line."""
        return InvalidRequest(f"{what} Line {self._number} must be an object such as {self._example}.")

    def string(self, name: str) -> str:
        """Return a field that may be an empty text."""
        return self._string(self._fields[name], f"The {name} of line {self._number}")

    def text(self, name: str) -> str:
        """Return a field in which there must be text."""
        return self._text(self._fields[name], f"The {name} of line {self._number}")

    def messages(self) -> list[Message]:
        """Return the messages of a conversation."""
        value = self._fields["messages"]
        if not isinstance(value, list) or not value:
            raise self.refuse(f"The messages of line {self._number} are no list, or an empty one.")
        messages = []
        for one in value:
            known = one if isinstance(one, dict) else {}
            role, content = known.get("role"), known.get("content")
            if not isinstance(role, str) or not isinstance(content, str):
                raise self.refuse(f"A message of line {self._number} has no role or no content as text.")
            messages.append(Message(role=_without_nul(role, self._number), content=_without_nul(content, self._number)))
        return messages

    def choices(self) -> tuple[str, ...]:
        """Return the choices of a question, of which no two are the same."""
        value, where = self._fields["choices"], f"The choices of line {self._number}"
        if not isinstance(value, list) or not CHOICES_MIN <= len(value) <= CHOICES_MAX:
            raise self.refuse(f"{where} are no list of {CHOICES_MIN} to {CHOICES_MAX} texts.")
        choices = tuple(self._text(one, f"A choice of line {self._number}") for one in value)
        if len(set(choices)) < len(choices):
            raise self.refuse(f"{where} hold one of them twice.")
        return choices

    def answer(self, count: int) -> int:
        """Return the place of the right choice."""
        value = self._fields["answer"]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < count:
            raise self.refuse(
                f"The answer of line {self._number} is no place among its choices, which are counted from 0 to "
                f"{count - 1}."
            )
        return value

    def _text(self, value: Any, where: str) -> str:
        text = self._string(value, where)
        if not text.strip():
            raise self.refuse(f"{where} is empty.")
        return text

    def _string(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise self.refuse(f"{where} is no string.")
        return _without_nul(value, self._number)


def _choice(value: _Value) -> MultipleChoice:
    choices = value.choices()
    return MultipleChoice(value.text("question"), choices, value.answer(len(choices)))


@dataclass(frozen=True)
class _Line:
    """What a line of one kind has, and how it is read."""

    kind: DatasetKind
    fields: frozenset[str]
    example: str
    read: Callable[[_Value], Item]


_KNOWN = (
    _Line(DatasetKind.DOCUMENTS, frozenset({"text"}), '{"text": "…"}', lambda value: value.string("text")),
    _Line(
        DatasetKind.CHAT,
        frozenset({"messages"}),
        '{"messages": [{"role": "user", "content": "…"}]}',
        lambda value: value.messages(),
    ),
    _Line(
        DatasetKind.COMPLETION,
        frozenset({"prompt", "completion"}),
        '{"prompt": "…", "completion": "…"}',
        lambda value: Completion(value.text("prompt"), value.text("completion")),
    ),
    _Line(
        DatasetKind.MULTIPLE_CHOICE,
        frozenset({"question", "choices", "answer"}),
        '{"question": "…", "choices": ["…", "…"], "answer": 0}',
        _choice,
    ),
    _Line(
        DatasetKind.REFERENCE,
        frozenset({"prompt", "reference"}),
        '{"prompt": "…", "reference": "…"}',
        lambda value: Reference(value.text("prompt"), value.text("reference")),
    ),
    _Line(
        DatasetKind.CODE,
        frozenset({"prompt", "tests"}),
        '{"prompt": "…", "tests": "…"}',
        lambda value: Code(value.text("prompt"), value.text("tests")),
    ),
)
EXAMPLES: Mapping[DatasetKind, str] = {line.kind: line.example for line in _KNOWN}
WHAT_A_LINE_IS = f"Each must be an object such as {', '.join(list(EXAMPLES.values())[:-1])} or {_KNOWN[-1].example}."


def _items(pieces: Iterable[bytes], longest: int | None = None) -> Iterator[tuple[int, _Line, Item]]:
    """Yield the number, the kind and the item of each line that is not blank.

    Raises:
        InvalidRequest: a line is no item, or longer than so many characters.
    """
    for number, line in _lines(pieces):
        if longest is not None and len(line) > longest:
            raise InvalidRequest(
                f"Line {number} has {len(line)} characters, and {longest} may be in an item. Cut it into several lines."
            )
        if line.strip():
            fields = _object(line, number)
            known = _known(fields, number)
            yield number, known, known.read(_Value(fields, number, known.example))


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"Line {number} is not JSON ({error.msg} at character {error.pos + 1}). {WHAT_A_LINE_IS}"
        ) from None
    except RecursionError:
        raise InvalidRequest(f"Line {number} is not JSON that can be read: it is nested too deeply.") from None
    except ValueError:
        raise InvalidRequest(f"Line {number} holds a number of thousands of digits. Shorten it.") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"Line {number} is no object. {WHAT_A_LINE_IS}")
    return value


def _known(fields: Mapping[str, Any], number: int) -> _Line:
    """Return the kind that a line is of, by the fields that it has; it may have others beside those."""
    found = [line for line in _KNOWN if line.fields <= fields.keys()]
    if not found:
        raise InvalidRequest(f"Line {number} has not the fields of any kind. {WHAT_A_LINE_IS}")
    if len(found) > 1:
        kinds = " and ".join(line.kind for line in found)
        raise InvalidRequest(f"Line {number} has the fields of several kinds: {kinds}. Leave out those of all but one.")
    return found[0]
