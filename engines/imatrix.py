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
from engines.gguf_file import GgufModel, gguf_in, open_gguf, place_of_tensor
from engines.gguf_plan import quantizable
from engines.imatrix_file import CHUNKS, COUNTS, IMATRIX_NAME, SUMS
from engines.llama_cpp import run_tool
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from engines.sentinel import Place, Sentinel

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
        Diverged: the model gives numbers that are not finite, or an expert saw no token.
        ModelUnsupported: the model gives nothing at all.
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
    facts["warnings"] += _warnings(sorted(wanted - entries))
    return facts


def _matrices(model: Path) -> set[str]:
    """Return the matrices that may have an entry: those of the layers; embedding and output head have none."""
    return {name for name in quantizable(model) if name.startswith("blk.")}


def _require_sound(written: GgufModel, entries: set[str]) -> None:
    """Refuse what would be weighed by numbers that mean nothing.

    For an expert that no token went to llama-quantize puts ones in (``load_imatrix`` in
    ``tools/quantize/quantize.cpp``) and rounds on, in any type, as if every column mattered alike.

    Raises:
        Diverged: naming the layer, and the expert.
        ModelUnsupported: there is nothing at all.
    """
    if not entries:
        raise ModelUnsupported("llama-imatrix found no matrix in this model that it could measure. Leave out imatrix.")
    sentinel = Sentinel({}, "leave out imatrix")
    for name in sorted(entries):
        sums, counts = (written.tensors[f"{name}{suffix}"].data for suffix in (SUMS, COUNTS))
        place = place_of_tensor(name)
        sentinel.finite(place, "the sum of its inputs' squares", float(sums.astype("float64").sum()))
        for expert, count in enumerate(counts.ravel()):
            if not count:
                sentinel.unseen(Place(place.layer, f"{place.module} of expert {expert}"))
        if not sums.any():
            raise ModelUnsupported(f"The importance of {name} is nothing: leave out imatrix.")


def _warnings(missing: list[str]) -> Iterator[str]:
    """Yield which matrices have no entry; llama-quantize refuses low bits for these."""
    if missing:
        yield (
            f"{len(missing)} matrices have no importance, such as {', '.join(missing[:NAMED_MAX])}: types below three "
            "bits cannot be used for them."
        )
