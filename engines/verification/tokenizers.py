"""Whether two tokenizers are one: ids on a varied text, special tokens, chat template."""

from typing import Any

from engines.pretokenizer import PROOF_LINES, TOLERATED_LINES
from engines.tokenizer import encode
from engines.verification.subject import Fault

TURNS = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}]
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def require_same(found: Any, original: Any) -> None:
    """Return if a result's tokenizer does all that its source's does.

    Args:
        found: as ``load_tokenizer`` returns it.
        original: likewise.

    Raises:
        Fault: it does not; the message says where.
    """
    for name in SPECIAL_TOKENS:
        ours, theirs = ((getattr(t, name), getattr(t, f"{name}_id")) for t in (found, original))
        if ours != theirs:
            raise Fault(f"Its {name} is {ours[0]!r} with id {ours[1]}, the source's {theirs[0]!r} with id {theirs[1]}.")
    for line in (*PROOF_LINES, *TOLERATED_LINES):
        if encode(found, line) != encode(original, line) or found(line)["input_ids"] != original(line)["input_ids"]:
            raise Fault(f"Its tokenizer gives other ids than the source's for {line!r}.")
    require_same_template(found.chat_template, original.chat_template)
    if original.chat_template is not None:
        ours, theirs = (t.apply_chat_template(TURNS, tokenize=False) for t in (found, original))
        if ours != theirs:
            raise Fault(f"Its chat template renders {ours[:200]!r}, and the source's {theirs[:200]!r}.")


def require_same_template(found: Any, original: Any) -> None:
    """Return if two chat templates are the same text, or both absent.

    Raises:
        Fault: they are not.
    """
    if original and not found:
        raise Fault("The source's chat template is lost.")
    if (found or None) != (original or None):
        raise Fault("Its chat template is another than the source's.")
