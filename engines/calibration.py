"""The text on which a method looks before it rounds: packed into samples of one length, chosen by a seed, and checked.

The text is a built-in one or a team's own. Equal lengths matter: GPTQModel's AWQ keeps only the last batch of unequal
ones, and padding would count as text.
"""

import functools
import hashlib
import io
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from core.errors import ModelUnsupported
from engines.datasets import Document, TextFormat, contents, read_documents
from engines.tokenizer import encode, encode_conversation, leading_bos, load_tokenizer, pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS = Path(__file__).parent / "texts"
_FILES = {"mixed": ("prose", "code"), "prose": ("prose",), "code": ("code",)}
BUILT_IN = tuple(_FILES)

IDS_NAME = "samples.safetensors"
TEXT_NAME = "samples.txt"

FEWEST = 0.1  # of the samples that were asked for
UNKNOWN_MANY, UNKNOWN_MAX = 0.001, 0.1  # of all tokens
REPEATED_MAX = 0.9  # of all tokens are one: half of deeply indented code may be blanks, where each is a token
PIECE_BYTES = 2**20
TOKENS_FEW = 16_384  # in all; papers use 128 samples of 2048
NGRAM = 13  # tokens, as GPT-3's authors looked for text that was in training and test (Brown et al., 2020)
OVERLAP_MUCH, OVERLAP_MAX = 0.01, 0.5  # of the text that is judged on
PARAM = "recipe.calibration_text"


@dataclass(frozen=True)
class Calibration:
    """The samples that a recipe asks for.

    Attributes:
        text: name of a built-in text; what the caller calls it where it is a team's own.
        samples: how many.
        tokens: length of each.
        seed: chooses them; the same seed gives the same samples in the same order.
    """

    text: str
    samples: int
    tokens: int
    seed: int

    @property
    def token_count(self) -> int:
        """Tokens of all samples."""
        return self.samples * self.tokens


@dataclass(frozen=True)
class OwnText:
    """A team's own text, as it lies on this machine.

    Attributes:
        path: its file.
        form: how that is to be read.
        sha256: of its bytes.
    """

    path: Path
    form: TextFormat
    sha256: str


class CalibrationFacts(TypedDict):
    """What a method will look at.

    Attributes:
        text: as the wanted ``Calibration`` calls it.
        text_sha256: of its bytes.
        samples: how many there are; fewer than asked for where the text gives no more.
        tokens: length of each.
        sha256: of all ids, in order.
        unknown_share: which part of the tokens stands for what the tokenizer does not know.
        overlap: for each text that is judged on, which part of it (by runs of ``NGRAM`` tokens) is in the samples.
        warnings: what a person should know before believing a result, in sentences.
    """

    text: str
    text_sha256: str
    samples: int
    tokens: int
    sha256: str
    unknown_share: float
    overlap: dict[str, float]
    warnings: list[str]


@functools.cache
def text_digest(name: str) -> str:
    """Return the SHA-256 of a built-in text: another text gives another result."""
    digest = hashlib.sha256()
    for part in _FILES[name]:
        digest.update(_path(part).read_bytes())
    return digest.hexdigest()


def write_samples(
    folder: Path,
    tokenizer_folder: Path,
    wanted: Calibration,
    judged: Mapping[str, Sequence[Sequence[int]]],
    own: OwnText | None = None,
) -> CalibrationFacts:
    """Write the samples into ``folder``, as ids and as text, once they are known to be fit for use.

    Args:
        folder: where ``IDS_NAME`` and ``TEXT_NAME`` go.
        tokenizer_folder: the source, for its tokenizer.
        wanted: which samples.
        judged: windows of ids on which the result will be judged, by the name of their text.
        own: the text that is meant, where it is no built-in one.

    Raises:
        ModelUnsupported: the text is too short or repeats one token, the tokenizer knows too little of it, or the
            result would be judged on what it was calibrated on.
    """
    import numpy as np
    from safetensors.numpy import save_file

    tokenizer = load_tokenizer(tokenizer_folder)
    parts = _built_in(wanted.text) if own is None else [_read_own(own)]
    rows = np.array(_draw(tokenizer, wanted, parts), dtype=np.int32)
    _require_variety(tokenizer, rows)
    # One token of each makes room for the newline, or what begins a text, so that the text cuts into the samples again.
    cut = slice(0, -1) if leading_bos(tokenizer) is None else slice(1, None)
    texts = (tokenizer.decode(row[cut].tolist()) for row in rows)
    facts = CalibrationFacts(
        text=wanted.text,
        text_sha256=text_digest(wanted.text) if own is None else own.sha256,
        samples=len(rows),
        tokens=wanted.tokens,
        sha256=hashlib.sha256(rows.tobytes()).hexdigest(),
        unknown_share=_unknown_share(tokenizer, rows),
        overlap={name: _overlap(rows, windows) for name, windows in judged.items()},
        warnings=[*_chat_warnings(tokenizer, own)],
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


def _built_in(name: str) -> Iterator[Iterable[Document]]:
    return ([_path(part).read_text(encoding="utf-8")] for part in _FILES[name])


def _read_own(own: OwnText) -> Iterator[Document]:
    with own.path.open("rb") as file:
        yield from read_documents(iter(lambda: file.read(PIECE_BYTES), b""), own.form)


def _draw(tokenizer: Any, wanted: Calibration, parts: Iterable[Iterable[Document]]) -> list["NDArray[np.int32]"]:
    """Return samples drawn from the text by the seed.

    Each part of the text is tokenized document by document, and the documents are cut, one behind the other, without
    overlap. Where the tokenizer begins a text with a token, each document and each sample begins with it.

    Raises:
        ModelUnsupported: the text is too short.
    """
    cuts = [cut for part in parts for cut in _cut(tokenizer, part, wanted.tokens)]
    if len(cuts) < FEWEST * wanted.samples:
        raise ModelUnsupported(
            f"The calibration text gives {len(cuts)} samples of {wanted.tokens} tokens with this "
            f"tokenizer, and {wanted.samples} were asked for. Lower calibration_samples or calibration_tokens, or "
            "choose a longer text.",
            param="recipe.calibration_samples",
        )
    count = min(len(cuts), wanted.samples)
    return random.Random(wanted.seed).sample(cuts, count)  # noqa: S311 - repeatable on purpose


def _cut(tokenizer: Any, documents: Iterable[Document], length: int) -> Iterator["NDArray[np.int32]"]:
    """Yield what documents give, packed behind each other, in pieces of one length; what is left at the end is not."""
    import numpy as np

    bos = leading_bos(tokenizer)
    begin = np.array([] if bos is None else [bos], dtype=np.int32)
    waiting = np.array([], dtype=np.int32)
    for document in documents:
        ids = _encode(tokenizer, document)
        waiting = np.concatenate([waiting, _missing(begin, ids), ids])  # a chat template may write it itself
        while True:
            head = _missing(begin, waiting)
            if len(head) + len(waiting) < length:
                break
            taken = length - len(head)
            yield np.concatenate([head, waiting[:taken]])
            waiting = waiting[taken:]


def _missing(begin: "NDArray[np.int32]", ids: "NDArray[np.int32]") -> "NDArray[np.int32]":
    """Return what has to stand before some ids for them to begin as a text does: nothing where it is there."""
    return begin[:0] if begin.size and ids.size and ids[0] == begin[0] else begin


def _encode(tokenizer: Any, document: Document) -> "NDArray[np.int32]":
    import numpy as np

    if not isinstance(document, str) and tokenizer.chat_template is not None:
        return np.array(encode_conversation(tokenizer, document, PARAM), dtype=np.int32)
    text = io.StringIO("\n\n".join(contents(document)))
    return np.concatenate([np.array(encode(tokenizer, piece), dtype=np.int32) for piece in pieces(text)])


def _chat_warnings(tokenizer: Any, own: OwnText | None) -> Iterator[str]:
    """Yield what is done with conversations, where there is a choice."""
    if own is None or own.form != "jsonl":
        return
    count = sum(not isinstance(document, str) for document in _read_own(own))
    if count and tokenizer.chat_template is None:
        yield f"The model has no chat template: of {count} conversations the contents were joined by blank lines."


def _require_variety(tokenizer: Any, rows: "NDArray[np.int32]") -> None:
    """Refuse samples of one token over and over, which show a method nothing of what the model does.

    Raises:
        ModelUnsupported: naming the token.
    """
    import numpy as np

    counts = np.bincount(rows.ravel())
    share = counts.max() / rows.size
    if share > REPEATED_MAX:
        token = tokenizer.decode([int(counts.argmax())])
        raise ModelUnsupported(
            f"{share:.1%} of the calibration text is one token, {token!r}, and at most {REPEATED_MAX:.0%} may be: the "
            "inputs that it gives each layer are all alike. Choose a text that says different things.",
            param=PARAM,
        )


def _unknown_share(tokenizer: Any, rows: "NDArray[np.int32]") -> float:
    """Return which part of the ids stands for what is unknown; none where that id has another meaning, too."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        return 0.0
    return float((rows == unknown).mean())


def _overlap(rows: "NDArray[np.int32]", windows: Sequence[Sequence[int]]) -> float:
    """Return which part of the windows' runs of tokens is in the samples, too."""
    import numpy as np

    seen = np.unique(_runs(rows))
    judged = np.concatenate([_runs(np.array([ids], dtype=np.int32)) for ids in windows])
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
