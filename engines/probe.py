"""A few fixed questions, and what full precision answers: that against which a result is verified.

The questions are the beginning of the first window of each evaluation text: how likely is each token at some places,
and how does the text go on. They are kept with the answers, so that whoever puts them again need not load the source's
tokenizer, which takes longer than many a result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ModelUnsupported
from engines.domains import Item, read_items
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
        windows: the ids that it was asked about, of which the last ``PLACES`` are the places; int64 of shape
            ``[windows, tokens]``.
        log_probabilities: of every token at each place, in nats; float32 of shape ``[places, vocabulary]``.
        continuations: for each prompt the ids that the model finds likeliest, one after the other; int64 of shape
            ``[prompts, CONTINUATION_TOKENS]``.
    """

    windows: "NDArray[np.int64]"
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


def read_windows(tokenizer_folder: Path) -> "NDArray[np.int64]":
    """Return the ids to ask about, one row for each of ``DOMAINS``.

    Args:
        tokenizer_folder: the source, for its tokenizer.
    """
    import numpy as np

    tokenizer = load_tokenizer(tokenizer_folder)
    windows = [read_items(tokenizer, domain, 1)[0] for domain in DOMAINS]
    return np.array([window.ids[: window.first + PLACES] for window in windows], dtype=np.int64)


def ask(runtime: Runtime, windows: "NDArray[np.int64]") -> Answers:
    """Put the questions to a model.

    Args:
        runtime: the model, entered.
        windows: what ``read_windows`` gives.

    Raises:
        ModelUnsupported: a logit is not finite.
    """
    import numpy as np

    asked = [Item(ids, len(ids) - PLACES) for ids in windows.tolist()]
    logits = np.concatenate([runtime.logits(item).copy() for item in asked])
    if not np.isfinite(logits).all():
        raise ModelUnsupported("The model's logits are not finite: its weights hold NaN, or overflow in this format.")
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalizer = np.log(np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64))
    continuations = [runtime.continuation(item.ids[:PROMPT_TOKENS], CONTINUATION_TOKENS) for item in asked]
    return Answers(windows, (shifted - normalizer).astype(np.float32), np.array(continuations, dtype=np.int64))


def side_by_side(runtime: Runtime, full_precision: Answers, result: Answers) -> list[SideBySide]:
    """Return how source and result go on from each prompt, as text.

    Args:
        runtime: the result, entered: its own words for the ids of both.
        full_precision: the source's answers.
        result: the result's.
    """
    prompts = full_precision.windows[:, :PROMPT_TOKENS].tolist()
    given = zip(DOMAINS, prompts, full_precision.continuations.tolist(), result.continuations.tolist(), strict=True)
    return [SideBySide(domain, *(_text(runtime, ids) for ids in all_ids)) for domain, *all_ids in given]


def _text(runtime: Runtime, ids: Sequence[int]) -> str:
    """Return what ids say, without what no JSON in Postgres can hold, and not endlessly."""
    return runtime.text(ids).replace("\x00", "\N{REPLACEMENT CHARACTER}")[:CHARACTERS_MAX]


def write(answers: Answers, folder: Path) -> None:
    """Write answers into ``folder``."""
    from safetensors.numpy import save_file

    save_file(vars(answers), folder / FILE_NAME)


def read(folder: Path, tokenizer_folder: Path) -> Answers:
    """Return the answers written into ``folder``.

    Args:
        folder: where they are.
        tokenizer_folder: the source: answers that an earlier version wrote do not say what was asked.
    """
    from safetensors.numpy import load_file

    written = load_file(folder / FILE_NAME)
    if "windows" not in written:
        written["windows"] = read_windows(tokenizer_folder)
    return Answers(**written)
