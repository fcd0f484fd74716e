"""Read what safetensors files say they hold, believing nothing that the file itself does not bear out.

Headers only: no tensor is read and no library that would execute anything is loaded. The format is the one of
https://github.com/huggingface/safetensors#format.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from core.errors import SourceInvalid

# Hundreds of thousands of tensors fit; what claims more is an attack on the memory of whoever parses it.
LENGTH_BYTES = 8  # before the header, its length
HEADER_BYTES_MAX = 32 * 2**20
JSON_BYTES_MAX = 256 * 2**20
DIMENSIONS_MAX = 16
ELEMENTS_MAX = 2**63

BITS_BY_DTYPE = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as a header describes it.

    Attributes:
        dtype: safetensors' name of the storage type, such as ``BF16``.
        shape: sizes, outermost first.
        begin: first byte, counted from the end of the header.
        end: the byte after the last.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def element_count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def byte_count(self) -> int:
        """The bytes that it takes up."""
        return self.end - self.begin


def read_json_object(path: Path, *, bytes_max: int = JSON_BYTES_MAX) -> dict[str, Any]:
    """Return the JSON object in ``path``.

    Raises:
        SourceInvalid: the file is too large, cannot be read or holds anything else.
    """
    try:
        if path.stat().st_size > bytes_max:
            raise SourceInvalid(f"{path.name} is larger than {bytes_max} bytes; that cannot be right. Check the file.")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceInvalid(f"{path.name} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise SourceInvalid(f"{path.name} is not valid JSON ({error}). Fetch or write the file again.") from None
    if not isinstance(value, dict):
        raise SourceInvalid(f"{path.name} must hold a JSON object, and holds a {type(value).__name__}.")
    return value


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors that a safetensors file holds, by name.

    Raises:
        SourceInvalid: the file is truncated, or is not a safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if header_bytes > min(HEADER_BYTES_MAX, size - LENGTH_BYTES):
                raise _damaged(path, "its header does not fit into the file")
            raw = file.read(header_bytes)
    except OSError as error:
        raise SourceInvalid(f"{path.name} cannot be read: {error.strerror}.") from None
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    tensors = {name: _parse_tensor(path, name, entry) for name, entry in header.items()}
    _check_layout(path, tensors, size - LENGTH_BYTES - header_bytes)
    return tensors


def _parse_tensor(path: Path, name: str, entry: Any) -> StoredTensor:
    what = f"the entry of tensor {name[:200]!r} is malformed"
    if not isinstance(entry, dict):
        raise _damaged(path, what)
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS_BY_DTYPE:
        raise _damaged(path, f"tensor {name[:200]!r} has the unknown type {str(dtype)[:40]!r}")
    if not _are_sizes(shape) or len(shape) > DIMENSIONS_MAX or math.prod(shape) > ELEMENTS_MAX:
        raise _damaged(path, what)
    if not _are_sizes(offsets) or len(offsets) != 2:  # noqa: PLR2004 - begin and end
        raise _damaged(path, what)
    tensor = StoredTensor(dtype, tuple(shape), *offsets)
    if tensor.byte_count != (tensor.element_count * BITS_BY_DTYPE[dtype] + 7) // 8:
        raise _damaged(path, f"the shape of tensor {name[:200]!r} does not agree with its bytes")
    return tensor


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < ELEMENTS_MAX for item in value)


def _check_layout(path: Path, tensors: dict[str, StoredTensor], data_bytes: int) -> None:
    """Refuse gaps, overlaps and missing bytes: tensors must fill the file from the header to the end."""
    position = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != position:
            raise _damaged(path, "its tensors overlap or leave gaps")
        position = tensor.end
    if position > data_bytes:
        raise _damaged(path, f"it is truncated: {position - data_bytes} bytes are missing at its end")
    if position < data_bytes:
        raise _damaged(path, f"{data_bytes - position} bytes at its end belong to no tensor")


def _damaged(path: Path, reason: str) -> SourceInvalid:
    return SourceInvalid(f"{path.name} is damaged: {reason}. Fetch or save the file again.")
