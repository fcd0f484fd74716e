"""How much each column of a model's matrices matters for a text, by llama.cpp's own llama-imatrix on the lossless file.

For each matrix it sums the squares of what is multiplied with each column. The quantizer weighs its rounding errors by
them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from core.errors import ModelUnsupported
from engines import calibration
from engines.context import EngineContext, Progress
from engines.gguf_file import GgufModel, gguf_in, open_gguf
from engines.gguf_plan import quantizable
from engines.imatrix_file import CHUNKS, COUNTS, IMATRIX_NAME, SUMS
from engines.llama_cpp import run_tool
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts

TEXT_NAME = calibration.TEXT_NAME  # as it stands in the file

BATCH_TOKENS = 512
PROCESS_BYTES = 512 * 2**20
NAMED_MAX = 3  # of what is missing

# "[12]7.3112," once a chunk is done; the number behind is the perplexity so far
CHUNK = re.compile(r"\[(\d+)\]")


class ImatrixFacts(TypedDict):
    """What was found out.

    Attributes:
        chunks: pieces of text that were looked at.
        tokens: length of each.
        matrices: how many the quantizer works on in the layers.
        entries: how many of them have an entry.
        warnings: what a person should know before relying on it, in sentences.
    """

    chunks: int
    tokens: int
    matrices: int
    entries: int
    warnings: list[str]


def forecast(facts: ModelFacts, tokens: int) -> Forecast:
    """Return what llama-imatrix will need: the lossless file, logits of a sample twice, keys, values and activations.

    Args:
        facts: of the source.
        tokens: length of a sample.
    """
    logits = 2 * 4 * tokens * facts.vocabulary_size
    inner = 4 * tokens * facts.hidden_size * (16 + facts.layer_count)
    sums = 4 * 16 * max(facts.row_lengths, default=facts.hidden_size) * facts.layer_count
    return Forecast(
        memory_bytes=PROCESS_BYTES + facts.weight_bytes + logits + inner + sums, scratch_bytes=2**26 + 2 * sums
    )


def write_imatrix(context: EngineContext, lossless: Path, samples: Path) -> ImatrixFacts:
    """Write ``IMATRIX_NAME`` into ``context.output``.

    Args:
        context: folders, threads and progress.
        lossless: the folder with the converted model.
        samples: the folder that ``calibration.write_samples`` filled.

    Raises:
        ModelUnsupported: the model gives numbers that are not finite, or nothing at all.
        ToolFailed: llama-imatrix refused or failed.
        DoesNotFit: memory or disk ran out.
    """
    rows = calibration.read_samples(samples)
    count, tokens = len(rows), len(rows[0])
    # More than once, since a token may be lost where two samples meet, and the last would not fill its chunk; and it
    # takes no text that is shorter than two chunks.
    text = (samples / calibration.TEXT_NAME).read_bytes()
    (context.scratch / TEXT_NAME).write_bytes(b"\n".join([text] * (2 + 2 // count)))
    model = gguf_in(lossless)

    def follow(line: str) -> None:
        if found := CHUNK.findall(line):
            context.report(Progress(int(found[-1]), count, "chunks"))

    # The tool writes the text's path into its result, so the name alone is given.
    files: list[str | Path] = ["-m", model, "-f", TEXT_NAME, "-o", context.output / IMATRIX_NAME]
    sizes = ["--chunks", str(count), "-c", str(tokens), "-b", str(min(tokens, BATCH_TOKENS))]
    # It ends a line where it saves, and not otherwise. Tokens that begin texts or turns of a conversation are in ours.
    ways = ["--output-frequency", "1", "-t", str(context.threads), "--parse-special"]
    run_tool("llama-imatrix", [*files, *sizes, *ways], cwd=context.scratch, on_line=follow)
    written, wanted = open_gguf(context.output / IMATRIX_NAME), _matrices(model)
    entries = {name for name in wanted if f"{name}{SUMS}" in written.tensors and f"{name}{COUNTS}" in written.tensors}
    _require_sound(written, entries)
    facts = ImatrixFacts(
        chunks=int(written.value(CHUNKS)), tokens=tokens, matrices=len(wanted), entries=len(entries), warnings=[]
    )
    facts["warnings"] += _warnings(written, sorted(wanted - entries), entries)
    return facts


def _matrices(model: Path) -> set[str]:
    """Return the matrices that may have an entry: those of the layers; embedding and output head have none."""
    return {name for name in quantizable(model) if name.startswith("blk.")}


def _require_sound(written: GgufModel, entries: set[str]) -> None:
    import numpy as np

    if not entries:
        raise ModelUnsupported("llama-imatrix found no matrix in this model that it could measure. Leave out imatrix.")
    for name in entries:
        sums = written.tensors[f"{name}{SUMS}"].data
        if not np.isfinite(sums).all() or not sums.any():
            raise ModelUnsupported(f"The importance of {name} is not finite, or nothing: leave out imatrix.")


def _warnings(written: GgufModel, missing: list[str], entries: set[str]) -> Iterator[str]:
    """Yield what no text reached.

    llama-quantize refuses low bits for a matrix without an entry. For an expert that no token went to it puts ones in
    (``load_imatrix`` in ``tools/quantize/quantize.cpp``) and rounds on, in any type. That is a warning and no refusal:
    such an expert is rounded by its weights alone, hardly worse (with ones in the place of everything the perplexity of
    tiny-llama-6m rises by 2 % in IQ3_XXS, 7 % in IQ2_XXS, 5 % in IQ1_S), and some models have experts that no text
    reaches.
    """
    if missing:
        yield (
            f"{len(missing)} matrices have no importance, such as {', '.join(missing[:NAMED_MAX])}: types below three "
            "bits cannot be used for them."
        )
    counts = {name: written.tensors[f"{name}{COUNTS}"].data for name in entries}
    unseen = sorted(name for name, count in counts.items() if not count.all())
    if unseen:
        experts = sum(int((counts[name] == 0).sum()) for name in unseen)
        yield (
            f"No calibration text reached {experts} experts' matrices in {len(unseen)} tensors, such as "
            f"{', '.join(unseen[:NAMED_MAX])}: llama.cpp rounds them as if every column mattered alike, which costs "
            "most in the types below three bits that need an importance matrix. Raise calibration_samples, or choose a "
            "text that is more like what the model will be used for."
        )
