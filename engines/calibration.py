"""The text on which a method looks before it rounds: packed into samples of one length, chosen by a seed.

Equal lengths matter: GPTQModel's AWQ keeps only the last batch of unequal ones, and padding would count as text.
"""

import functools
import hashlib
import random
from pathlib import Path
from typing import Literal, get_args

from core.errors import ModelUnsupported
from engines.tokenizer import encode, leading_bos, load_tokenizer

TEXTS = Path(__file__).parent / "texts"
CalibrationText = Literal["mixed", "prose", "code"]
_FILES = {"mixed": ("prose", "code"), "prose": ("prose",), "code": ("code",)}
assert set(_FILES) == set(get_args(CalibrationText))  # noqa: S101 - one list said twice, for the type checker


@functools.cache
def text_digest(name: CalibrationText) -> str:
    """Return the SHA-256 of a built-in text: another text gives another result."""
    digest = hashlib.sha256()
    for part in _FILES[name]:
        digest.update(_path(part).read_bytes())
    return digest.hexdigest()


def samples(tokenizer_folder: Path, name: CalibrationText, count: int, tokens: int, seed: int) -> list[list[int]]:
    """Return calibration samples, all of the same length.

    Each part of the text is tokenized whole and cut without overlap; the samples are drawn from all the cuts by the
    seed. Where the tokenizer begins a text with a token, each sample begins with it.

    Args:
        tokenizer_folder: the source, for its tokenizer.
        name: a built-in text.
        count: how many samples.
        tokens: length of each.
        seed: the same seed gives the same samples in the same order.

    Raises:
        ModelUnsupported: the text is too short for as many samples with this tokenizer.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    bos = leading_bos(tokenizer)
    begin = [] if bos is None else [bos]
    length = tokens - len(begin)
    cuts = []
    for part in _FILES[name]:
        ids = encode(tokenizer, _path(part).read_text(encoding="utf-8"))
        cuts += [[*begin, *ids[index * length : (index + 1) * length]] for index in range(len(ids) // length)]
    if len(cuts) < count:
        raise ModelUnsupported(
            f"The calibration text {name!r} gives {len(cuts)} samples of {tokens} tokens with this tokenizer, and "
            f"{count} were asked for. Lower calibration_samples or calibration_tokens.",
            param="recipe.calibration_samples",
        )
    return random.Random(seed).sample(cuts, count)  # noqa: S311 - repeatable on purpose


def _path(part: str) -> Path:
    return TEXTS / f"{part}_calibration.txt"
