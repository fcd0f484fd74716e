"""What models are judged on: named texts, cut into items of tokens of which some are scored.

Of plain text the items are llama-perplexity's windows, to the token. Refuses to know: what a model says of them.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import InvalidRequest, ModelUnsupported
from engines.tokenizer import PIECE_CHARACTERS, encode, leading_bos

TEXTS = Path(__file__).parent / "texts"
TEXT_SUFFIX = "_eval.txt"
COMPLETION_SUFFIX = "_eval.jsonl"

# llama-perplexity's window: its first half is context alone, its second half is scored but for the last prediction,
# whose answer lies in the next window.
WINDOW_TOKENS = 512
CONTEXT_TOKENS = 257
SCORED_TOKENS = WINDOW_TOKENS - CONTEXT_TOKENS
# At most, of what a team has brought that is no plain text, and of a task's question with its answer
ITEM_TOKENS = 2048


@dataclass(frozen=True)
class Item:
    """A piece of text that a model reads at once.

    Attributes:
        ids: its tokens.
        first: index of the first that is scored; all after it are, too.
        follows: whether it stands beside the others in one text, as windows do, so that they are alike.
    """

    ids: Sequence[int]
    first: int
    follows: bool = False

    @property
    def targets(self) -> Sequence[int]:
        """The tokens that are scored."""
        return self.ids[self.first :]


def domains() -> list[str]:
    """Return the names of the texts that there are."""
    return sorted(
        path.name.removesuffix(suffix)
        for suffix in (TEXT_SUFFIX, COMPLETION_SUFFIX)
        for path in TEXTS.glob(f"*{suffix}")
    )


@functools.cache
def text_digest(domain: str) -> str:
    """Return the SHA-256 of a domain's text: another text gives other scores."""
    return hashlib.sha256(_path(domain).read_bytes()).hexdigest()


def is_in_order(domain: str) -> bool:
    """Return whether each item of a domain follows on the one before it, as windows of one text do."""
    return _path(domain).name.endswith(TEXT_SUFFIX)


def read_items(tokenizer: Any, domain: str, count: int) -> list[Item]:
    """Return the first items of a domain's text.

    Args:
        tokenizer: the source's.
        domain: one of ``domains()``.
        count: at most this many; a shorter text gives what it has.

    Raises:
        InvalidRequest: there is no such text.
        ModelUnsupported: the tokenizer makes less than one item of it.
    """
    text = _path(domain).read_text(encoding="utf-8")
    if is_in_order(domain):
        return cut_windows(tokenizer, text, count)
    documents = [json.loads(line) for line in text.splitlines()[:count]]
    return [completion(tokenizer, document["prompt"], document["completion"]) for document in documents]


def cut_windows(tokenizer: Any, text: str, count: int) -> list[Item]:
    """Return the first windows of a text, as llama-perplexity cuts them.

    The text is tokenized whole, with the token that begins a text only where the tokenizer adds one; windows do not
    overlap and the last, partial one is dropped. Where the tokenizer adds that token, it also takes the place of each
    window's first.

    Raises:
        ModelUnsupported: the tokenizer makes less than one window of it.
    """
    bos = leading_bos(tokenizer)
    return windows_of(encode(tokenizer, text), bos, count)


def windows_of(text_ids: Sequence[int], bos: int | None, count: int) -> list[Item]:
    """Return the first windows of a text of which the ids are known; see ``cut_windows``."""
    ids = [*([] if bos is None else [bos]), *text_ids]
    found = min(count, len(ids) // WINDOW_TOKENS)
    if found == 0:
        raise ModelUnsupported(
            f"The text has {len(ids)} tokens for this tokenizer, and a window needs {WINDOW_TOKENS}."
        )
    cut = [ids[index * WINDOW_TOKENS : (index + 1) * WINDOW_TOKENS] for index in range(found)]
    if bos is not None:
        for window in cut:
            window[0] = bos
    return [Item(window, CONTEXT_TOKENS, follows=True) for window in cut]


def completion(tokenizer: Any, prompt: str, answer: str) -> Item:
    """Return a prompt with its completion, of which the latter alone is scored.

    Both are tokenized as one text, as the model would read them. Of what is longer than a window the end of the
    completion is left out where that alone takes more than half of it, and then the beginning of the prompt.

    Raises:
        ModelUnsupported: the tokenizer makes nothing of one of the two.
    """
    item = completion_if_any(tokenizer, prompt, answer)
    if item is None:
        raise ModelUnsupported(f"The tokenizer makes no tokens of the prompt {prompt[:80]!r}, or of its completion.")
    return item


def completion_if_any(tokenizer: Any, prompt: str, answer: str, longest: int = WINDOW_TOKENS) -> Item | None:
    """Return what ``completion`` does, cut at ``longest`` ids; None where there is nothing to read, or to score."""
    bos = leading_bos(tokenizer)
    begin = [] if bos is None else [bos]
    near = prompt[-PIECE_CHARACTERS:]  # what is farther away is left out in any case
    whole = encode(tokenizer, near + answer[:PIECE_CHARACTERS])
    return answered(begin, encode(tokenizer, near), whole, longest)


def answered(begin: Sequence[int], alone: Sequence[int], whole: Sequence[int], longest: int) -> Item | None:
    """Return a prompt with what follows it, which alone is scored, cut as ``completion`` has it.

    Args:
        begin: what begins a text, and is always kept.
        alone: ids of the prompt.
        whole: ids of both together, in which the prompt may end otherwise.
        longest: how many ids are kept at most.

    Returns:
        None where there is nothing to read, or nothing to score.
    """
    split = next((at for at, pair in enumerate(zip(alone, whole, strict=False)) if pair[0] != pair[1]), len(alone))
    asked, scored = [*begin, *whole[:split]], whole[split:]
    if not asked or not scored:
        return None
    scored = scored[: max(longest // 2, longest - len(asked))]
    kept = asked[len(begin) :][-(longest - len(scored) - len(begin)) :]
    ids = [*begin, *kept, *scored]
    return Item(ids, len(ids) - len(scored))


def _path(domain: str) -> Path:
    if domain not in domains():
        known = ", ".join(domains())
        raise InvalidRequest(f"There is no text {domain[:80]!r}. Known: {known}.", param="evaluation.domains")
    text = TEXTS / f"{domain}{TEXT_SUFFIX}"
    return text if text.exists() else TEXTS / f"{domain}{COMPLETION_SUFFIX}"
