"""Load a source's own tokenizer, from its folder alone and without running its code."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from core.errors import ModelUnsupported
from engines.datasets import Message

TRANSFORMERS = "transformers 5.17.0"
PIECE_CHARACTERS = 2**20  # of a long text at once: a tokenizer takes some 180 bytes of memory for each


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in ``folder`` as a ``transformers`` object.

    Raises:
        ModelUnsupported: transformers cannot load it as it is, or reads no configuration in the folder.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # What a malformed file raises depends on where in the library it is met; the Rust part raises plain Exception.
    except Exception as error:
        _require_config(folder)
        raise ModelUnsupported(
            f"The tokenizer cannot be loaded ({_first_line(error)}). AutoTokenizer must load it without remote code."
        ) from error


def _require_config(folder: Path) -> None:
    """Refuse a configuration that transformers cannot read, for want of which it loads no tokenizer either."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelUnsupported(f"transformers cannot read the model's config.json ({_first_line(error)}).") from error


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of ``text`` alone: nothing is added, and a special token's name in it is ordinary text.

    Both as llama.cpp's own tools read a text.
    """
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return ids


def pieces(file: TextIO) -> Iterator[str]:
    """Yield a long text, cut at ends of lines where there are some, in what a tokenizer can hold in memory at once."""
    held = ""
    while block := file.read(PIECE_CHARACTERS):
        held += block
        while len(held) > PIECE_CHARACTERS:
            end = held.rfind("\n", 0, PIECE_CHARACTERS) + 1 or PIECE_CHARACTERS
            yield held[:end]
            held = held[end:]
    yield held


def encode_conversation(
    tokenizer: Any, messages: Sequence[Message], param: str, *, to_be_answered: bool = False
) -> list[int]:
    """Return the ids of a conversation as the model's chat template writes it; see ``write_conversation``."""
    return encode_written(tokenizer, write_conversation(tokenizer, messages, param, to_be_answered=to_be_answered))


def write_conversation(tokenizer: Any, messages: Sequence[Message], param: str, *, to_be_answered: bool = False) -> str:
    """Return a conversation as the model's chat template writes it, with the names of special tokens in it.

    Args:
        tokenizer: the source's; it has a chat template.
        messages: what was said.
        param: where the request names the text.
        to_be_answered: whether what begins an answer follows.

    Raises:
        ModelUnsupported: the template does not take it, as where two messages of one role follow each other.
    """
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=to_be_answered)
    except Exception as error:  # a template's own errors, and those of what it does
        raise ModelUnsupported(
            f"The model's chat template refuses a conversation ({_first_line(error)}). "
            "Change the dataset, or send its documents as plain text.",
            param=param,
        ) from error
    return text


def encode_written(tokenizer: Any, conversation: str) -> list[int]:
    """Return the ids of what a chat template has written, in which names of special tokens mean these."""
    ids: list[int] = tokenizer(conversation, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def leading_bos(tokenizer: Any) -> int | None:
    """Return the id that ``tokenizer`` puts before a text as its beginning, or None where it puts none."""
    bos: int | None = tokenizer.bos_token_id
    return bos if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
