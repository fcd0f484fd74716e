"""What a model folder tells a person: sizes, tokenizer, chat template, licence. Headers and small files only.

Believes no more of it than ``engines.source`` does, and looks at no weights.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.source import CONFIG_BYTES_MAX, CONFIG_NAME, SIZE_MAX, has_file
from engines.weights import read_json_object

TOKENIZER_NAME = "tokenizer.json"
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
SPECIAL_TOKENS_NAME = "special_tokens_map.json"  # of older models
TEMPLATE_NAMES = ("chat_template.jinja", "chat_template.json")
CARD_NAME = "README.md"
LICENCE_NAMES = tuple(f"{word}{suffix}" for word in ("LICENSE", "LICENCE") for suffix in ("", ".txt", ".md"))
TEXT_CHARACTERS_MAX = 200
CARD_BYTES_MAX = 2**16  # the front matter stands at the beginning

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_FRONT_MATTER = re.compile(r"---[^\S\n]*\n(?P<lines>.*?)^---[^\S\n]*$", re.DOTALL | re.MULTILINE)
_LICENCE_NAME = re.compile(r"^license_name:[^\S\n]*(?P<name>\S[^\n]*)$", re.MULTILINE)
_LICENCE = re.compile(r"^license:(?:[^\S\n]*|[^\S\n]*\n[^\S\n]*-[^\S\n]+)(?P<name>[^\s-][^\n]*)$", re.MULTILINE)


@dataclass(frozen=True)
class Tokenizer:
    """What turns text into numbers.

    Attributes:
        kind: such as ``BPE`` or ``Unigram``, as tokenizer.json says, or by the files that there are.
        vocabulary_size: tokens that it knows, added ones included; None where no file that is read here lists them.
        special_tokens: by what they are for, such as ``eos_token``.
    """

    kind: str | None
    vocabulary_size: int | None
    special_tokens: Mapping[str, str]


@dataclass(frozen=True)
class Description:
    """What is known of a model, beside its ``ModelFacts``.

    Attributes:
        model_type: as config.json calls its architecture.
        tokenizer: what turns text into numbers.
        has_chat_template: whether it comes with a template for conversations.
        licence: as its card names it, or else the first line of its licence; None where there is neither.
        experts_per_token: to how many of a layer's experts a token goes, as config.json says; None where it does not.
    """

    model_type: str | None
    tokenizer: Tokenizer
    has_chat_template: bool
    licence: str | None
    experts_per_token: int | None


def describe(folder: Path, roots: Sequence[Path] = ()) -> Description:
    """Return what a model folder tells.

    Args:
        folder: a folder that ``engines.source.inspect`` accepts.
        roots: further folders into which links in it may lead.

    Raises:
        SourceInvalid: a file is damaged, or a link that leads out of where it may.
    """
    config = read_json_object(folder / CONFIG_NAME, bytes_max=CONFIG_BYTES_MAX)
    of_text = config.get("text_config")
    sizes = {**config, **of_text} if isinstance(of_text, dict) else config
    told = _document(folder, TOKENIZER_CONFIG_NAME, roots)
    return Description(
        model_type=_text(config.get("model_type")),
        tokenizer=_tokenizer(folder, told, roots),
        has_chat_template=bool(told.get("chat_template")) or any(has_file(folder, n, roots) for n in TEMPLATE_NAMES),
        licence=_licence(folder, roots),
        experts_per_token=_count(sizes.get("num_experts_per_tok")),
    )


def _tokenizer(folder: Path, told: Mapping[str, Any], roots: Sequence[Path]) -> Tokenizer:
    document = _document(folder, TOKENIZER_NAME, roots)
    model = document.get("model")
    if isinstance(model, dict):
        kind, size = _text(model.get("type")), _vocabulary_size(model, document.get("added_tokens"))
    elif has_file(folder, "tokenizer.model", roots):
        kind, size = "SentencePiece", None
    else:
        kind, size = "BPE", len(_document(folder, "vocab.json", roots)) or None
    named = {**_document(folder, SPECIAL_TOKENS_NAME, roots), **told}
    special = {name: _text(_content(named.get(name))) for name in _SPECIAL}
    return Tokenizer(kind, size, {name: text for name, text in special.items() if text is not None})


def _vocabulary_size(model: Mapping[str, Any], added: Any) -> int | None:
    """Return how many different tokens there are in what tokenizer.json has: a mapping, or Unigram's pairs."""
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict | list):
        return None
    if isinstance(vocabulary, list):
        vocabulary = [pair[0] for pair in vocabulary if isinstance(pair, list) and pair]
    known = {token for token in vocabulary if isinstance(token, str)}
    entries = added if isinstance(added, list) else []
    return len(known | {text for entry in entries if isinstance(text := _content(entry), str)})


def _content(token: Any) -> Any:
    """Return the text of a token, which may stand in an object with how it is to be treated."""
    return token.get("content") if isinstance(token, dict) else token


def _licence(folder: Path, roots: Sequence[Path]) -> str | None:
    if has_file(folder, CARD_NAME, roots) and (card := _FRONT_MATTER.match(_beginning(folder / CARD_NAME))):
        # A licence of its own is called "other", and its name stands beside that.
        for pattern in (_LICENCE_NAME, _LICENCE):
            if found := pattern.search(card["lines"]):
                return _text(found["name"].strip().strip("'\""))
    for name in LICENCE_NAMES:
        if has_file(folder, name, roots):
            lines = (line.strip(" #\t") for line in _beginning(folder / name).splitlines())
            return _text(next(filter(None, lines), None))
    return None


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(CARD_BYTES_MAX).decode("utf-8", "replace").replace("\r\n", "\n")


def _document(folder: Path, name: str, roots: Sequence[Path]) -> dict[str, Any]:
    return read_json_object(folder / name) if has_file(folder, name, roots) else {}


def _count(given: Any) -> int | None:
    return given if type(given) is int and 0 < given < SIZE_MAX else None


def _text(value: Any) -> str | None:
    """Return a short text without what cannot be shown or sent; None for anything else."""
    if not isinstance(value, str):
        return None
    readable = value.encode("utf-8", "replace").decode().replace("\0", "")
    return readable[:TEXT_CHARACTERS_MAX] or None
