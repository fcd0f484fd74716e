"""A GPTQ checkpoint as it lies on the disk: what it holds, and what of it must be the source's own.

The layout is AutoGPTQ's: for each quantized layer ``qweight``, ``qzeros``, ``scales`` and ``g_idx`` in place of
``weight``. Headers alone tell the facts.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from engines.source import ANYWHERE, CONFIG_NAME, companions, weight_tensors
from engines.weights import StoredTensor, read_json_object

PACKED = ("qweight", "qzeros", "scales", "g_idx")
NAMES_BY_DTYPE = {"F16": "f16", "BF16": "bf16", "F32": "f32"}


class GptqFacts(TypedDict):
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


def read_gptq_facts(folder: Path) -> GptqFacts:
    """Return the facts of the checkpoint in ``folder``.

    Raises:
        SourceInvalid: a shard is missing, or a file is damaged.
    """
    tensors = weight_tensors(folder, ANYWHERE)
    bits = read_bits(folder)
    types: Counter[str] = Counter()
    elements = 0
    for name, tensor in tensors.items():
        kind = name.rpartition(".")[2]
        if kind == "qweight":
            types[f"gptq{bits}"] += 1
            elements += tensor.element_count * 32 // bits
        elif kind not in PACKED:
            types[NAMES_BY_DTYPE.get(tensor.dtype, tensor.dtype.lower())] += 1
            elements += tensor.element_count
    stored = sum(tensor.end - tensor.begin for tensor in tensors.values())
    return GptqFacts(
        size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        bits_per_weight=round(8 * stored / elements, 4),
        tensor_types=dict(sorted(types.items())),
        quantized_modules=types[f"gptq{bits}"],
    )


def read_bits(folder: Path) -> int:
    """Return the bits of a quantized weight, as the checkpoint's configuration says."""
    return int(read_json_object(folder / CONFIG_NAME)["quantization_config"]["bits"])


def keep_companions(folder: Path, source: Path) -> None:
    """Put the source's own tokenizer, chat template, generation settings and licence beside the weights.

    GPTQModel writes them anew, and not the same. The source's README speaks of another model and stays behind.
    """
    for name in companions(folder):
        (folder / name).unlink()
    for name in companions(source):
        shutil.copyfile(source / name, folder / name)


def keep_precision(folder: Path, source: Path) -> None:
    """Put the source's own bits in place of what was computed in another precision but not quantized.

    Args:
        folder: the checkpoint; files that are right already are left as they are.
        source: the model it was made of.
    """
    originals = weight_tensors(source, ANYWHERE)
    for path in sorted(folder.glob("*.safetensors")):
        _keep_precision_of(path, source, originals)
    config, original = (read_json_object(place / CONFIG_NAME) for place in (folder, source))
    for name in ("dtype", "torch_dtype"):
        config.pop(name, None)
        if name in original:
            config[name] = original[name]
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _keep_precision_of(path: Path, source: Path, originals: Mapping[str, StoredTensor]) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        metadata = file.metadata()
    kept = tensors.keys() & originals.keys()
    ours = read_tensors(source, kept)
    replaced = {name: tensor for name, tensor in ours.items() if tensor.dtype != tensors[name].dtype}
    if replaced:
        save_file({**tensors, **replaced}, path, metadata)


def read_tensors(folder: Path, names: set[str]) -> dict[str, Any]:
    """Return tensors of a model folder by name, as torch reads them."""
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found.update({name: file.get_tensor(name) for name in names.intersection(file.keys())})
    return found
