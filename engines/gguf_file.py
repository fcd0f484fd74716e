"""Read back what a GGUF file really holds."""

from collections import Counter
from pathlib import Path
from typing import TypedDict


class GgufFacts(TypedDict):
    """What was written.

    Attributes:
        size_bytes: the whole file.
        bits_per_weight: bits of the tensors' data for each element, over all tensors.
        tensor_types: how many tensors are stored in each type, as llama.cpp spells them (``q4_K``, ``f32``).
    """

    size_bytes: int
    bits_per_weight: float
    tensor_types: dict[str, int]


def read_gguf_facts(path: Path) -> GgufFacts:
    """Return the facts of the file at ``path``."""
    import gguf

    tensors = gguf.GGUFReader(path).tensors
    types = Counter(str(tensor.tensor_type.name) for tensor in tensors)
    elements = sum(int(tensor.n_elements) for tensor in tensors)
    return GgufFacts(
        size_bytes=path.stat().st_size,
        bits_per_weight=round(8 * sum(int(tensor.n_bytes) for tensor in tensors) / elements, 4),
        tensor_types={name.lower().replace("_k", "_K"): count for name, count in sorted(types.items())},
    )


def gguf_in(path: Path) -> Path:
    """Return the GGUF file that ``path`` is, or that a folder holds."""
    return next(path.glob("*.gguf"), path) if path.is_dir() else path
