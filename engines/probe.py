"""A few fixed questions, and what full precision answers: that against which a result is verified.

The questions are the first window of each evaluation text: how likely is each token at some places, and how does the
text go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ModelUnsupported
from engines.domains import read_items
from engines.runtimes import Runtime
from engines.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DOMAINS = ("code", "prose")
FILE_NAME = "probe.safetensors"
PLACES = 64  # in each window; a large vocabulary takes half a megabyte for each
PROMPT_TOKENS = 64
CONTINUATION_TOKENS = 64
CHARACTERS_MAX = 2000  # of each text that is kept


@dataclass(frozen=True)
class Answers:
    """What a model answers.

    Attributes:
        log_probabilities: of every token at each place, in nats; float32 of shape ``[places, vocabulary]``.
        continuations: for each prompt the ids that the model finds likeliest, one after the other; int64 of shape
            ``[prompts, CONTINUATION_TOKENS]``.
    """

    log_probabilities: "NDArray[np.float32]"
    continuations: "NDArray[np.int64]"


@dataclass(frozen=True)
class SideBySide:
    """How source and result go on after the same prompt.

    Attributes:
        domain: the text whose beginning the prompt is.
        prompt: what both were given.
        baseline: how the source goes on in full precision.
        result: how the result does.
    """

    domain: str
    prompt: str
    baseline: str
    result: str


def ask(runtime: Runtime, tokenizer_folder: Path) -> Answers:
    """Put the questions to a model.

    Args:
        runtime: the model, entered.
        tokenizer_folder: the source, for its tokenizer.

    Raises:
        ModelUnsupported: a logit is not finite.
    """
    import numpy as np

    tokenizer = load_tokenizer(tokenizer_folder)
    windows = [read_items(tokenizer, domain, 1)[0] for domain in DOMAINS]
    logits = np.concatenate([runtime.logits(window)[:PLACES].copy() for window in windows])
    if not np.isfinite(logits).all():
        raise ModelUnsupported("The model's logits are not finite: its weights hold NaN, or overflow in this format.")
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalizer = np.log(np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64))
    continuations = [runtime.continuation(window.ids[:PROMPT_TOKENS], CONTINUATION_TOKENS) for window in windows]
    return Answers((shifted - normalizer).astype(np.float32), np.array(continuations, dtype=np.int64))


def side_by_side(full_precision: Answers, result: Answers, tokenizer_folder: Path) -> list[SideBySide]:
    """Return how source and result go on from each prompt, as text.

    Args:
        full_precision: the source's answers.
        result: the result's.
        tokenizer_folder: the source, for its tokenizer.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    asked = [read_items(tokenizer, domain, 1)[0].ids[:PROMPT_TOKENS] for domain in DOMAINS]
    given = zip(DOMAINS, asked, full_precision.continuations.tolist(), result.continuations.tolist(), strict=True)
    return [SideBySide(domain, *(_text(tokenizer, ids) for ids in all_ids)) for domain, *all_ids in given]


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return what ids say, without what no JSON in Postgres can hold, and not endlessly."""
    said: str = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    return said.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:CHARACTERS_MAX]


def write(answers: Answers, folder: Path) -> None:
    """Write answers into ``folder``."""
    from safetensors.numpy import save_file

    save_file(vars(answers), folder / FILE_NAME)


def read(folder: Path) -> Answers:
    """Return the answers written into ``folder``."""
    from safetensors.numpy import load_file

    return Answers(**load_file(folder / FILE_NAME))
