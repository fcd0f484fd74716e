"""The text on which a method looks before it rounds: packed into samples of one length, chosen by a seed, and checked.

Equal lengths matter: GPTQModel's AWQ keeps only the last batch of unequal ones, and padding would count as text.
"""

import functools
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from core.errors import ModelUnsupported
from engines.tokenizer import encode, leading_bos, load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS = Path(__file__).parent / "texts"
CalibrationText = Literal["mixed", "prose", "code"]
_FILES = {"mixed": ("prose", "code"), "prose": ("prose",), "code": ("code",)}
assert set(_FILES) == set(get_args(CalibrationText))  # noqa: S101 - one list said twice, for the type checker

IDS_NAME = "samples.safetensors"
TEXT_NAME = "samples.txt"

FEWEST = 0.1  # of the samples that were asked for
UNKNOWN_MANY, UNKNOWN_MAX = 0.001, 0.1  # of all tokens
TOKENS_FEW = 16_384  # in all; papers use 128 samples of 2048
NGRAM = 13  # tokens, as GPT-3's authors looked for text that was in training and test (Brown et al., 2020)
OVERLAP_MUCH, OVERLAP_MAX = 0.01, 0.5  # of the text that is judged on
PARAM = "recipe.calibration_text"


@dataclass(frozen=True)
class Calibration:
    """The samples that a recipe asks for.

    Attributes:
        text: name of a built-in text.
        samples: how many.
        tokens: length of each.
        seed: chooses them; the same seed gives the same samples in the same order.
    """

    text: CalibrationText
    samples: int
    tokens: int
    seed: int


class CalibrationFacts(TypedDict):
    """What a method will look at.

    Attributes:
        text: its name.
        samples: how many there are; fewer than asked for where the text gives no more.
        tokens: length of each.
        sha256: of all ids, in order.
        unknown_share: which part of the tokens stands for what the tokenizer does not know.
        overlap: for each text that is judged on, which part of it (by runs of ``NGRAM`` tokens) is in the samples.
        warnings: what a person should know before believing a result, in sentences.
    """

    text: str
    samples: int
    tokens: int
    sha256: str
    unknown_share: float
    overlap: dict[str, float]
    warnings: list[str]


@functools.cache
def text_digest(name: CalibrationText) -> str:
    """Return the SHA-256 of a built-in text: another text gives another result."""
    digest = hashlib.sha256()
    for part in _FILES[name]:
        digest.update(_path(part).read_bytes())
    return digest.hexdigest()


def write_samples(
    folder: Path, tokenizer_folder: Path, wanted: Calibration, judged: Mapping[str, Sequence[Sequence[int]]]
) -> CalibrationFacts:
    """Write the samples into ``folder``, as ids and as text, once they are known to be fit for use.

    Args:
        folder: where ``IDS_NAME`` and ``TEXT_NAME`` go.
        tokenizer_folder: the source, for its tokenizer.
        wanted: which samples.
        judged: windows of ids on which the result will be judged, by the name of their text.

    Raises:
        ModelUnsupported: the text is too short, the tokenizer knows too little of it, or the result would be judged on
            what it was calibrated on.
    """
    import numpy as np
    from safetensors.numpy import save_file

    tokenizer = load_tokenizer(tokenizer_folder)
    rows = np.array(_draw(tokenizer, wanted), dtype=np.int32)
    # One token of each makes room for the newline, or what begins a text, so that the text cuts into the samples again.
    cut = slice(0, -1) if leading_bos(tokenizer) is None else slice(1, None)
    texts = (tokenizer.decode(row[cut].tolist()) for row in rows)
    facts = CalibrationFacts(
        text=wanted.text,
        samples=len(rows),
        tokens=wanted.tokens,
        sha256=hashlib.sha256(rows.tobytes()).hexdigest(),
        unknown_share=float((rows == tokenizer.unk_token_id).mean()) if tokenizer.unk_token_id is not None else 0.0,
        overlap={name: _overlap(rows, windows) for name, windows in judged.items()},
        warnings=[],
    )
    facts["warnings"] += _warnings(facts, wanted)
    save_file({"input_ids": rows}, folder / IDS_NAME)
    (folder / TEXT_NAME).write_text("\n".join(texts), encoding="utf-8")
    return facts


def read_samples(folder: Path) -> list[list[int]]:
    """Return the samples' ids, each sample as long as the others."""
    from safetensors.numpy import load_file

    rows: list[list[int]] = load_file(folder / IDS_NAME)["input_ids"].tolist()
    return rows


def _draw(tokenizer: Any, wanted: Calibration) -> list[list[int]]:
    """Return samples drawn from the text by the seed.

    Each part of the text is tokenized whole and cut without overlap. Where the tokenizer begins a text with a token,
    each sample begins with it.

    Raises:
        ModelUnsupported: the text is too short.
    """
    bos = leading_bos(tokenizer)
    begin = [] if bos is None else [bos]
    length = wanted.tokens - len(begin)
    cuts = []
    for part in _FILES[wanted.text]:
        ids = encode(tokenizer, _path(part).read_text(encoding="utf-8"))
        cuts += [[*begin, *ids[index * length : (index + 1) * length]] for index in range(len(ids) // length)]
    if len(cuts) < FEWEST * wanted.samples:
        raise ModelUnsupported(
            f"The calibration text {wanted.text!r} gives {len(cuts)} samples of {wanted.tokens} tokens with this "
            f"tokenizer, and {wanted.samples} were asked for. Lower calibration_samples or calibration_tokens.",
            param="recipe.calibration_samples",
        )
    count = min(len(cuts), wanted.samples)
    return random.Random(wanted.seed).sample(cuts, count)  # noqa: S311 - repeatable on purpose


def _overlap(rows: "NDArray[np.int32]", windows: Sequence[Sequence[int]]) -> float:
    """Return which part of the windows' runs of tokens is in the samples, too."""
    import numpy as np

    seen = np.unique(_runs(rows))
    judged = _runs(np.array(windows, dtype=np.int32))
    return float(np.isin(judged, seen).mean()) if judged.size else 0.0


def _runs(rows: "NDArray[np.int32]") -> "NDArray[np.uint64]":
    """Return a number for each run of ``NGRAM`` tokens within a row; equal runs have equal numbers."""
    import numpy as np

    length = rows.shape[1] - NGRAM + 1
    if length < 1:
        return np.empty(0, dtype=np.uint64)
    hashed: NDArray[np.uint64] = np.zeros((rows.shape[0], length), dtype=np.uint64)
    for offset in range(NGRAM):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + rows[:, offset : offset + length].astype(np.uint64) + 1
    return hashed.ravel()


def _warnings(facts: CalibrationFacts, wanted: Calibration) -> Iterator[str]:
    """Yield what should be known of the samples.

    Raises:
        ModelUnsupported: they are of no use.
    """
    if facts["samples"] < wanted.samples:
        yield f"The calibration text gave {facts['samples']} samples; {wanted.samples} were asked for."
    if (total := facts["samples"] * facts["tokens"]) < TOKENS_FEW:
        yield f"{total} tokens of calibration text are few: with fewer than {TOKENS_FEW} results vary with the seed."
    unknown = f"{facts['unknown_share']:.1%} of the calibration text is unknown to the tokenizer"
    if facts["unknown_share"] > UNKNOWN_MAX:
        raise ModelUnsupported(f"{unknown}. Choose text in a language that the model knows.", param=PARAM)
    if facts["unknown_share"] > UNKNOWN_MANY:
        yield f"{unknown}."
    for name, share in facts["overlap"].items():
        shared = f"{share:.1%} of the text {name!r} is in the calibration text, too"
        if share > OVERLAP_MAX:
            raise ModelUnsupported(f"{shared}: a result would be judged on what it was made for.", param=PARAM)
        if share > OVERLAP_MUCH:
            yield f"{shared}: perplexity on it flatters the result."


def _path(part: str) -> Path:
    return TEXTS / f"{part}_calibration.txt"
