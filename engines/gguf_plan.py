"""What llama-quantize would make of each tensor, asked of the tool itself.

A mixture's types depend on the architecture, the place of a layer, heads, experts and rows. The tool's dry run goes
through all of that (``llama-quant.cpp``) and reads no more of a model than its header.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from core.errors import ToolFailed
from engines.gguf_types import EdgeType, GgufType, TensorType
from engines.imatrix_file import IMATRIX_NAME, write_blank
from engines.llama_cpp import run_tool

# "[   2/  56] token_embd.weight   - [   256,   4096,      1,      1], type =   bf16, size =     2.00 MiB ->     0.82
# MiB (q6_K)", and without the arrow where a tensor stays as it is
_LINE = re.compile(r"\[\s*\d+/\s*(\d+)\]\s+(\S+)\s+- \[[\d, ]+\], type =\s*(\w+), size =(?:.*->.*\((\w+)\))?")


def planned_types(
    lossless: Path, file_type: GgufType, options: Iterable[str] = (), *, has_imatrix: bool = False
) -> dict[str, str]:
    """Return the type that each tensor will be stored in, as llama.cpp spells it, such as ``q4_K``.

    Args:
        lossless: the converted file.
        file_type: the mixture.
        options: what changes it, as ``type_options`` gives them.
        has_imatrix: whether an importance matrix will be used; any one, since its content decides nothing here.

    Raises:
        ToolFailed: llama-quantize refused or failed, or said something else than it used to.
    """
    return {
        name: after or before for name, before, after in _dry_run(lossless, file_type, options, has_imatrix=has_imatrix)
    }


def quantizable(lossless: Path) -> list[str]:
    """Return the tensors that llama-quantize quantizes: it leaves vectors, routers, convolutions and more as they are.

    Asked of the tool, too (``tensor_allows_quantization``): its list has names of its own for some architectures.

    Raises:
        ToolFailed: as ``planned_types``.
    """
    return [name for name, _, after in _dry_run(lossless, "Q8_0", (), has_imatrix=False) if after is not None]


def _dry_run(
    lossless: Path, file_type: GgufType, options: Iterable[str], *, has_imatrix: bool
) -> list[tuple[str, str, str | None]]:
    """Return each tensor's name, its type, and the one that it would be converted to."""
    found: list[tuple[str, str, str | None]] = []
    total = 0

    def follow(line: str) -> None:
        nonlocal total
        if match := _LINE.match(line):
            total = int(match[1])
            found.append((match[2], match[3], match[4]))

    with tempfile.TemporaryDirectory() as folder:
        if has_imatrix:
            write_blank(Path(folder, IMATRIX_NAME))
            options = [*options, "--imatrix", IMATRIX_NAME]
        run_tool("llama-quantize", ["--dry-run", *options, lossless, file_type], cwd=Path(folder), on_line=follow)
    if not found or len(found) != total:
        raise ToolFailed(f"llama-quantize --dry-run told of {len(found)} tensors, and not of {total or 'any'}.")
    return found


def type_options(
    patterns: Mapping[str, TensorType], token_embedding_type: EdgeType | None, output_type: EdgeType | None
) -> Iterator[str]:
    """Yield llama-quantize's options for types that are asked for by name."""
    for pattern, name in patterns.items():
        yield from ("--tensor-type", f"{pattern}={name}")
    if token_embedding_type is not None:
        yield from ("--token-embedding-type", token_embedding_type)
    if output_type is not None:
        yield from ("--output-tensor-type", output_type)
