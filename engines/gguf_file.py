"""Read back what a GGUF file really holds, or a set of files into which one was split.

The first file of a set has all the keys; its name ends in ``-00001-of-0000N.gguf``, by which the others are found.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from core.errors import ModelUnsupported
from engines.sentinel import Place

SPLIT_NUMBER, SPLIT_COUNT, SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"
CHAT_TEMPLATE = "tokenizer.chat_template"
_PART = re.compile(r"(?P<stem>.+)-00001-of-(?P<count>\d{5})\.gguf")
IN_BLOCK = re.compile(r"blk\.(?P<layer>\d+)\.(?P<matrix>.+)\.weight")


class GgufFacts(TypedDict):
    """What was written.

    Attributes:
        size_bytes: all files.
        bits_per_weight: bits of the tensors' data for each element, over all tensors.
        tensor_types: how many tensors are stored in each type, as llama.cpp spells them (``q4_K``, ``f32``).
    """

    size_bytes: int
    bits_per_weight: float
    tensor_types: dict[str, int]


@dataclass(frozen=True)
class GgufModel:
    """A file or a set of files, mapped into memory.

    Attributes:
        fields: the reader's fields of the first file, by key.
        tensors: the reader's tensors of all files, by name.
        data_offset: where the first file's tensors begin, in bytes.
    """

    fields: Mapping[str, Any]
    tensors: Mapping[str, Any]
    data_offset: int

    def value(self, key: str) -> Any:
        """Return a key's value, or None where it is not there."""
        field = self.fields.get(key)
        return None if field is None else field.contents()

    def matrices(self) -> dict[str, Any]:
        """Return the tensors with two dimensions or more; llama-quantize leaves some of them as they are."""
        return {name: tensor for name, tensor in self.tensors.items() if is_matrix(tensor)}


def open_gguf(path: Path) -> GgufModel:
    """Return what the file at ``path`` holds, or the set that it is the first of.

    Raises:
        ModelUnsupported: a file of the set is missing, or is not what its name says.
        Exception: a file is damaged; what is raised depends on where the reader meets the damage.
    """
    from engines.gguf_reader import GgufReader

    files = parts(path)
    readers = [GgufReader(file) for file in files]
    first = readers[0]
    tensors: dict[str, Any] = {}
    for number, (file, reader) in enumerate(zip(files, readers, strict=True)):
        found = [_number(reader, key) for key in (SPLIT_NUMBER, SPLIT_COUNT)]
        if found != ([number, len(files)] if len(files) > 1 else [None, None]):
            raise ModelUnsupported(f"{file.name} says that it is number {found[0]} of {found[1]} files, from 0.")
        tensors.update((tensor.name, tensor) for tensor in reader.tensors)
    if len(files) > 1 and _number(first, SPLIT_TENSORS) != len(tensors):
        raise ModelUnsupported(f"The files hold {len(tensors)} tensors and not {_number(first, SPLIT_TENSORS)}.")
    return GgufModel(first.fields, tensors, int(first.data_offset))


def _number(reader: Any, key: str) -> int | None:
    field = reader.fields.get(key)
    return None if field is None else int(field.contents())


def parts(path: Path) -> Sequence[Path]:
    """Return the files of the set that ``path`` is the first of, or it alone.

    Raises:
        ModelUnsupported: one is missing.
    """
    match = _PART.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["count"])
    files = [path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    for file in files:
        if not file.exists():
            raise ModelUnsupported(f"{file.name} is missing.")
    return files


def read_gguf_facts(path: Path) -> GgufFacts:
    """Return the facts of the file at ``path``, or of the set that it is the first of."""
    tensors = open_gguf(path).tensors.values()
    types = Counter(type_name(tensor) for tensor in tensors)
    elements = sum(int(tensor.n_elements) for tensor in tensors)
    return GgufFacts(
        size_bytes=sum(file.stat().st_size for file in parts(path)),
        bits_per_weight=round(8 * sum(int(tensor.n_bytes) for tensor in tensors) / elements, 4),
        tensor_types=dict(sorted(types.items())),
    )


def type_name(tensor: Any) -> str:
    """Return a tensor's type as llama.cpp spells it, such as ``q4_K``."""
    return str(tensor.tensor_type.name).lower().replace("_k", "_K")


def place_of_tensor(name: str) -> Place:
    """Return where a tensor is."""
    found = IN_BLOCK.fullmatch(name)
    return Place(int(found["layer"]), found["matrix"]) if found else Place(-1, name)


def is_matrix(tensor: Any) -> bool:
    """Return whether a tensor has two dimensions, or is a stack of matrices, one for each expert."""
    return sum(int(size) > 1 for size in tensor.shape) > 1


def gguf_in(path: Path) -> Path:
    """Return the GGUF file that ``path`` is, or the first that a folder holds."""
    return min(path.glob("*.gguf"), default=path) if path.is_dir() else path
