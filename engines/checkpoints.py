"""A folder of safetensors as a quantizer leaves it, and what of it must be the source's own.

Knows no format: which tensors a quantizer has made is said by whoever knows its layout.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from engines.source import (
    ANYWHERE,
    CONFIG_NAME,
    LAYER,
    OUTPUT_HEADS,
    TORCH_DTYPES,
    companions,
    weight_tensors,
)
from engines.tensor_files import replace_tensors
from engines.weights import StoredTensor, read_header, read_json_object

NAMES_BY_DTYPE = {"F16": "f16", "BF16": "bf16", "F32": "f32"}
ROUTERS = ("gate", "router")  # choose experts, and are left as they are; "gate_proj" is none of them


class CheckpointFacts(TypedDict):
    """What was written.

    Attributes:
        size_bytes: all files.
        bits_per_weight: bits of the stored tensors for each weight of the model they stand for.
        tensor_types: how many of the model's tensors are stored in each type, such as ``gptq4`` and ``bf16``.
        quantized_modules: how many layers are quantized.
    """

    size_bytes: int
    bits_per_weight: float
    tensor_types: dict[str, int]
    quantized_modules: int


def is_in_layer(module: str) -> bool:
    """Return whether a linear module of this name is one of those that are quantized: in a layer, and no router."""
    return bool(LAYER.search(module)) and module.rpartition(".")[2] not in ROUTERS


def matrices(tensors: Mapping[str, StoredTensor], *, output_head: bool) -> dict[str, tuple[int, int]]:
    """Return what is quantized where no recipe says otherwise: rows and columns, by the module's whole name.

    Args:
        tensors: the source's.
        output_head: whether it is one of them.
    """
    heads = OUTPUT_HEADS if output_head else frozenset[str]()
    return {
        name.removesuffix(".weight"): (tensor.shape[0], tensor.shape[1])
        for name, tensor in tensors.items()
        if len(tensor.shape) == 2  # noqa: PLR2004 - a matrix
        and name.endswith(".weight")
        and (name in heads or is_in_layer(name.removesuffix(".weight")))
    }


def keep_companions(folder: Path, source: Path) -> None:
    """Put the source's own tokenizer, chat template, generation settings and licence beside the weights.

    Quantizers write them anew, and not the same. The source's README speaks of another model and stays behind.
    """
    for name in companions(folder):
        (folder / name).unlink()
    for name in companions(source):
        shutil.copyfile(source / name, folder / name)


def keep_precision(folder: Path, source: Path, made: Callable[[str, StoredTensor], str | None]) -> None:
    """Put what was computed in another precision but not quantized back into the source's.

    What has not changed becomes the source's own bits.

    Args:
        folder: the checkpoint; of files that are right already only the headers are read.
        source: the model it was made of.
        made: given a tensor's name and header, returns in what type it must be stored if it is the quantizer's own, and
            None if it is one of the source's.
    """
    originals = weight_tensors(source, ANYWHERE)
    for path in sorted(folder.glob("*.safetensors")):
        wanted = {}
        for name, stored in read_header(path).items():
            dtype = made(name, stored) or (originals[name].dtype if name in originals else stored.dtype)
            if dtype != stored.dtype:
                wanted[name] = TORCH_DTYPES[dtype]
        found, ours = (read_tensors(place, wanted) for place in (path.parent, source))
        replace_tensors(path, {name: _as(dtype, found[name], ours.get(name)) for name, dtype in wanted.items()})
    config, original = (read_json_object(place / CONFIG_NAME) for place in (folder, source))
    for name in ("dtype", "torch_dtype"):
        config.pop(name, None)
        if name in original:
            config[name] = original[name]
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _as(dtype: str, found: Any, own: Any) -> Any:
    """Return what was found in another type: the source's own bits where only the precision is another."""
    import torch

    is_own = own is not None and torch.equal(own.to(found.dtype), found)
    return own if is_own else found.to(getattr(torch, dtype))


class Shards:
    """The tensors of a model folder as torch reads them, each when it is asked for; its files stay mapped meanwhile."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        files: list[Any] = [safe_open(path, "pt") for path in sorted(folder.glob("*.safetensors"))]
        self._file_of = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - no mapping

    def read(self, names: Iterable[str]) -> dict[str, Any]:
        """Return tensors by name; those that are not there are left out."""
        return {name: self._file_of[name].get_tensor(name) for name in names if name in self._file_of}


def read_tensors(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return tensors of a model folder by name; see ``Shards``, where many are read one by one."""
    return Shards(folder).read(names)
