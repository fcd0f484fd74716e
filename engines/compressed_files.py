"""A compressed-tensors checkpoint as it lies on the disk: which scheme it follows, and what it holds.

The layout is the one of https://github.com/vllm-project/compressed-tensors: each quantized layer has ``weight_scale``
beside its codes, which are ``weight`` where a code fills a byte and ``weight_packed`` where codes share words of 32
bits. Headers and config.json alone tell the facts.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engines.checkpoints import NAMES_BY_DTYPE, CheckpointFacts, is_in_layer
from engines.source import ANYWHERE, CONFIG_NAME, weight_tensors
from engines.weights import StoredTensor, read_json_object

WORD_BITS = 32
SCALE_BITS = 16
SCALE = "weight_scale"
# All that belongs to one quantized weight and is none itself.
PARTS = (SCALE, "weight_zero_point", "weight_shape", "input_scale")
CODES = ("weight_packed", "weight")
OUTPUT_HEAD = "lm_head"


@dataclass(frozen=True)
class Scheme:
    """How weights and activations are rounded, and which layers are left out.

    Attributes:
        type: of the codes, ``int`` or ``float``.
        bits: of a code.
        group_size: weights of a row that share a scale; -1 for whole rows, 0 for the whole matrix.
        symmetric: whether scales are around zero; if not, each has a zero point.
        activations: whether inputs of a layer are rounded, too: not at all, each ``token`` by a scale of its own found
            as it comes, or all by one ``static`` scale found beforehand.
        smoothing: what was scaled before rounding, so that others are easier to round: nothing, the ``columns`` of
            matrices and norms before them, or also matrices and those that follow them (``pairs``).
        ignore: regular expressions; a layer whose whole name one of them matches is not quantized.
        lm_head: whether the output head is quantized.
    """

    type: Literal["int", "float"]
    bits: int
    group_size: int
    symmetric: bool = True
    activations: Literal["none", "token", "static"] = "none"
    smoothing: Literal["none", "columns", "pairs"] = "none"
    ignore: Sequence[str] = ()
    lm_head: bool = False

    @property
    def format(self) -> str:
        """compressed-tensors' name of the layout."""
        if self.type == "float":
            return "float-quantized"
        return "pack-quantized" if self.activations == "none" else "int-quantized"

    @property
    def weight_bits(self) -> float:
        """Bits of a quantized weight, scales and zero points included where they are counted by groups."""
        zero_bits = 0 if self.symmetric else self.bits
        return self.bits + (SCALE_BITS + zero_bits) / self.group_size if self.group_size > 0 else float(self.bits)

    def quantizes(self, module: str) -> bool:
        """Return whether the linear module of this name is quantized, if the model has it."""
        if module == OUTPUT_HEAD:
            return self.lm_head
        return is_in_layer(module) and not any(re.fullmatch(pattern, module) for pattern in self.ignore)

    def config_group(self) -> dict[str, Any]:
        """Return what config.json says of weights and activations, as far as it decides about the numbers."""
        strategy = {-1: "channel", 0: "tensor"}.get(self.group_size, "group")
        weights = {
            "type": self.type,
            "num_bits": self.bits,
            "strategy": strategy,
            "group_size": self.group_size if strategy == "group" else None,
            "symmetric": self.symmetric,
            "dynamic": False,
        }
        if self.activations == "none":
            return {"weights": weights, "input_activations": None}
        inputs = {
            "type": self.type,
            "num_bits": self.bits,
            "strategy": "token" if self.activations == "token" else "tensor",
            "symmetric": True,
            "dynamic": self.activations == "token",
        }
        return {"weights": weights, "input_activations": inputs}


def read_compressed_facts(folder: Path) -> CheckpointFacts:
    """Return the facts of the checkpoint in ``folder``.

    Raises:
        SourceInvalid: a shard is missing, or a file is damaged.
    """
    tensors = weight_tensors(folder, ANYWHERE)
    weights = read_quantization_config(folder)["config_groups"]["group_0"]["weights"]
    bits, kind = int(weights["num_bits"]), "fp" if weights["type"] == "float" else "int"
    types: Counter[str] = Counter()
    elements = 0
    for name, tensor in tensors.items():
        part = name.rpartition(".")[2]
        if part in PARTS:
            continue
        if is_code(name, tensors):
            types[f"{kind}{bits}"] += 1
            elements += tensor.element_count * (WORD_BITS // bits if part == "weight_packed" else 1)
        else:
            types[NAMES_BY_DTYPE.get(tensor.dtype, tensor.dtype.lower())] += 1
            elements += tensor.element_count
    stored = sum(tensor.byte_count for tensor in tensors.values())
    return CheckpointFacts(
        size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        bits_per_weight=round(8 * stored / elements, 4),
        tensor_types=dict(sorted(types.items())),
        quantized_modules=types[f"{kind}{bits}"],
    )


def is_code(name: str, tensors: Mapping[str, StoredTensor]) -> bool:
    """Return whether a tensor holds the codes of a quantized weight, which has its scale beside it."""
    module, _, part = name.rpartition(".")
    return part in CODES and f"{module}.{SCALE}" in tensors


def read_quantization_config(folder: Path) -> dict[str, Any]:
    """Return what config.json says of the quantization; empty where it says nothing."""
    found = read_json_object(folder / CONFIG_NAME).get("quantization_config")
    return found if isinstance(found, dict) else {}
