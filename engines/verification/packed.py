"""What GPTQ and AWQ checkpoints have in common beside their source: which tensors there must be, and what they say."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engines.checkpoints import matrices
from engines.gptq_files import read_quantization_config
from engines.module_rules import Packing, packing
from engines.source import ANYWHERE, weight_tensors
from engines.verification import checkpoints
from engines.verification.checkpoints import Header, stored_and_originals
from engines.verification.subject import Fault, Subject
from engines.weights import StoredTensor

SCALE_BITS = 16

# What stands for one matrix of so many rows and columns: types and shapes by the ends of their names.
Headers = Mapping[str, Header]


@dataclass(frozen=True)
class Contents:
    """What the files of a result must hold.

    Attributes:
        stored: what they do hold.
        originals: what the source holds, but for an output head that it stores twice.
        packings: the modules that must be quantized, and how.
        kept: the names of all other tensors.
    """

    stored: Mapping[str, StoredTensor]
    originals: Mapping[str, StoredTensor]
    packings: Mapping[str, Packing]
    kept: frozenset[str]


def contents(subject: Subject, told: Mapping[str, Any]) -> Contents:
    """Return what there must be.

    Args:
        subject: the result and its source.
        told: what the ``quantization_config`` must say.

    Raises:
        Fault: the configuration says something else, or the source holds experts as one tensor.
        SourceInvalid: a shard is missing or damaged.
    """
    _require_told(subject, {**told, "quant_method": subject.written})
    stored, originals = stored_and_originals(subject)
    meant = matrices(originals, output_head=told.get("lm_head", False))
    packings = {name: found for name in meant if (found := packing(told, name)) is not None}
    kept = originals.keys() - {f"{name}.weight" for name in packings}
    return Contents(stored, originals, packings, frozenset(kept))


def require_headers(found: Contents, headers: Callable[[Packing, int, int], Headers]) -> None:
    """Compare names, types and shapes.

    Args:
        found: what there must be.
        headers: the tensors that stand for a matrix, by how it is packed, its rows and its columns.

    Raises:
        Fault: a tensor is missing, is too many, or is another than it must be.
    """
    expected = {name: (found.originals[name].dtype, found.originals[name].shape) for name in found.kept}
    for name, one in found.packings.items():
        rows, columns = found.originals[f"{name}.weight"].shape
        expected |= {f"{name}.{part}": header for part, header in headers(one, rows, columns).items()}
    checkpoints.require_headers(found.stored, expected)


def stored_bits(one: Packing) -> float:
    """Return bits of a quantized weight, scales and zero points included."""
    return float(one.bits if one.group_size < 0 else one.bits + (SCALE_BITS + one.bits) / one.group_size)


def layer_bits(subject: Subject, told: Mapping[str, Any]) -> float:
    """Return the bits a weight at which a result with one rounding error for all would be as far from its source.

    The error's square falls with ``4 ** -bits``; what is not quantized has none.
    """
    meant = matrices(weight_tensors(subject.source, ANYWHERE), output_head=told.get("lm_head", False))
    power = elements = 0.0
    for name, (rows, columns) in meant.items():
        one = packing(told, name)
        power += 0.0 if one is None else rows * columns * 4 ** -stored_bits(one)
        elements += rows * columns
    return -math.log(power / elements, 4) if power else float(SCALE_BITS)


def _require_told(subject: Subject, told: Mapping[str, Any]) -> None:
    """Compare what servers are told of the format with the recipe; of rules also their order, since the first holds."""
    said = read_quantization_config(subject.result)
    for name, value in {"dynamic": {}, **told}.items():
        ours, theirs = said.get(name) or value.__class__(), value
        if ours != theirs or (isinstance(theirs, Mapping) and list(ours) != list(theirs)):
            raise Fault(f"{name} is {said.get(name)!r} in its quantization_config, and must be {value!r}.")
