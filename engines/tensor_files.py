"""Single tensors of a safetensors file put in place of others."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.source import TORCH_DTYPES
from engines.weights import LENGTH_BYTES, read_header

_NAMES = {torch_name: name for name, torch_name in TORCH_DTYPES.items()}


def replace_tensors(path: Path, changed: Mapping[str, Any]) -> None:
    """Put tensors in place of those of the same names and shapes.

    A file of many gigabytes is not written anew where the new ones take up as many bytes as the old.

    Args:
        path: a safetensors file that nobody else reads.
        changed: tensors by name, perhaps of other types; none is a view of the file.
    """
    if changed and not _patched(path, changed):
        _written_anew(path, changed)


def _patched(path: Path, changed: Mapping[str, Any]) -> bool:
    """Overwrite the tensors and the header, if they fit where the old ones are; return whether they did."""
    stored = read_header(path)
    with path.open("r+b") as file:
        header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(header_bytes))
        for name, tensor in changed.items():
            header[name]["dtype"] = _NAMES[str(tensor.dtype).removeprefix("torch.")]
        raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(raw) > header_bytes or any(stored[name].byte_count != one.nbytes for name, one in changed.items()):
            return False
        file.seek(LENGTH_BYTES)
        file.write(raw.ljust(header_bytes))  # spaces at its end are part of the format
        for name, tensor in changed.items():
            file.seek(LENGTH_BYTES + header_bytes + stored[name].begin)
            file.write(_bytes_of(tensor))
    return True


def _bytes_of(tensor: Any) -> memoryview:
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _written_anew(path: Path, changed: Mapping[str, Any]) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        metadata = file.metadata()
    save_file({**tensors, **changed}, path, metadata)
