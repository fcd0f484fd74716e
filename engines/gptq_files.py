"""A GPTQ or AWQ checkpoint as it lies on the disk: what it holds, and what of it must be the source's own.

The layouts are AutoGPTQ's and AutoAWQ's: for each quantized layer ``qweight``, ``qzeros``, ``scales`` and, for GPTQ,
``g_idx`` in place of ``weight``. Headers alone tell the facts.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from core.errors import SourceInvalid
from engines.module_rules import packing
from engines.source import ANYWHERE, CONFIG_NAME, LAYER, OUTPUT_HEADS, companions, weight_tensors
from engines.weights import StoredTensor, read_json_object

PACKED = ("qweight", "qzeros", "scales", "g_idx")
NAMES_BY_DTYPE = {"F16": "f16", "BF16": "bf16", "F32": "f32"}
WORD_BITS = 32
ROUTER = "gate"  # chooses experts; it is left as it is


class PackedFacts(TypedDict):
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


def read_packed_facts(folder: Path) -> PackedFacts:
    """Return the facts of the checkpoint in ``folder``.

    Raises:
        SourceInvalid: a shard is missing, a file is damaged, or a module is packed of which the configuration says that
            it is not.
    """
    tensors = weight_tensors(folder, ANYWHERE)
    config = read_quantization_config(folder)
    types: Counter[str] = Counter()
    elements = quantized = 0
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind == "qweight":
            stored_as = packing(config, module)
            if stored_as is None:
                raise SourceInvalid(f"{module} is packed, and the result's configuration says that it was skipped.")
            types[f"{config['quant_method']}{stored_as.bits}"] += 1
            elements += tensor.element_count * WORD_BITS // stored_as.bits
            quantized += 1
        elif kind not in PACKED:
            types[NAMES_BY_DTYPE.get(tensor.dtype, tensor.dtype.lower())] += 1
            elements += tensor.element_count
    stored = sum(tensor.end - tensor.begin for tensor in tensors.values())
    return PackedFacts(
        size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        bits_per_weight=round(8 * stored / elements, 4),
        tensor_types=dict(sorted(types.items())),
        quantized_modules=quantized,
    )


def read_quantization_config(folder: Path) -> Mapping[str, Any]:
    """Return what the checkpoint says of its own format; empty if nothing."""
    config: Mapping[str, Any] = read_json_object(folder / CONFIG_NAME).get("quantization_config") or {}
    return config


def matrices(tensors: Mapping[str, StoredTensor], *, output_head: bool) -> dict[str, tuple[int, int]]:
    """Return what is quantized where no rule says otherwise: rows and columns, by the module's whole name.

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
        and (name in heads or (LAYER.search(name) and not name.endswith(f".{ROUTER}.weight")))
    }


def keep_companions(folder: Path, source: Path) -> None:
    """Put the source's own tokenizer, chat template, generation settings and licence beside the weights.

    GPTQModel writes them anew, and not the same. The source's README speaks of another model and stays behind.
    """
    for name in companions(folder):
        (folder / name).unlink()
    for name in companions(source):
        shutil.copyfile(source / name, folder / name)


def keep_precision(folder: Path, source: Path) -> None:
    """Put what was computed in another precision but not quantized back into the source's.

    What has not changed becomes the source's own bits. Scales become float16, as all readers of the formats expect.

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
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        metadata = file.metadata()
    replaced = {
        name: ours if torch.equal(ours.to(tensors[name].dtype), tensors[name]) else tensors[name].to(ours.dtype)
        for name, ours in read_tensors(source, tensors.keys() & originals.keys()).items()
        if ours.dtype != tensors[name].dtype
    }
    replaced |= {
        name: tensor.half()
        for name, tensor in tensors.items()
        if name.endswith(".scales") and tensor.dtype != torch.float16
    }
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
