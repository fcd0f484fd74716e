"""A GPTQ or AWQ checkpoint as it lies on the disk, and what it holds.

The layouts are AutoGPTQ's and AutoAWQ's: for each quantized layer ``qweight``, ``qzeros``, ``scales`` and, for GPTQ,
``g_idx`` in place of ``weight``. Headers alone tell the facts.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import SourceInvalid
from engines.checkpoints import NAMES_BY_DTYPE, CheckpointFacts
from engines.module_rules import packing
from engines.source import ANYWHERE, CONFIG_NAME, weight_tensors
from engines.weights import StoredTensor, read_json_object

PACKED = ("qweight", "qzeros", "scales", "g_idx")
WORD_BITS = 32


def read_packed_facts(folder: Path) -> CheckpointFacts:
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
    stored = sum(tensor.byte_count for tensor in tensors.values())
    return CheckpointFacts(
        size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        bits_per_weight=round(8 * stored / elements, 4),
        tensor_types=dict(sorted(types.items())),
        quantized_modules=quantized,
    )


def read_quantization_config(folder: Path) -> Mapping[str, Any]:
    """Return what the checkpoint says of its own format; empty if nothing."""
    config: Mapping[str, Any] = read_json_object(folder / CONFIG_NAME).get("quantization_config") or {}
    return config


def stored_type(name: str, tensor: StoredTensor) -> str | None:
    """Return the type that a tensor of the layout must have, None for any other: readers expect scales in float16."""
    part = name.rpartition(".")[2]
    if part == "scales":
        return "F16"
    return tensor.dtype if part in PACKED else None
