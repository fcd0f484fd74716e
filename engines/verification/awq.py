"""An AWQ checkpoint beside its source: tensor by tensor, but for the scales that AWQ moves between them."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engines.gptq_files import WORD_BITS, read_tensors
from engines.gptqmodel import load_quantized, packed_layers, unpacked_weight
from engines.methods.awq import BITS, stored_config
from engines.module_rules import Packing
from engines.verification import packed
from engines.verification.folding import Folds
from engines.verification.packed import Contents, Headers, check_tokenizer
from engines.verification.subject import Fault, Subject, error_bound

if TYPE_CHECKING:
    import torch

__all__ = ["check_tensors", "check_tokenizer", "layer_bits"]

LAYER_PREFIX = re.compile(r".*?\.\d+\.")
KEPT_ERROR_MAX = 0.01  # of what is scaled and not quantized; bfloat16 rounds to 0.004


def layer_bits(subject: Subject) -> float:
    """Return bits of a quantized weight, scales and zero points included."""
    return packed.layer_bits(subject, _told(subject))


def check_tensors(subject: Subject) -> str:
    """Compare what the files hold with what the recipe and the source say they must hold.

    Raises:
        Fault: a tensor is missing, of another shape or type, too far from its original, or scaled by what nothing
            makes up for.
        SourceInvalid: a shard is missing or damaged.
        ModelUnsupported: GPTQModel cannot read the checkpoint.
    """
    found = packed.contents(subject, _told(subject))
    packed.require_headers(found, _headers)
    layers = _by_layer(found)
    in_layers = {name for names in layers.values() for name in names}
    packed.require_same_tensors(subject, found.kept - in_layers)
    unpacked = dict(packed_layers(load_quantized(subject.result, "awq")))
    if wrong := unpacked.keys() ^ found.packings.keys():
        raise Fault(f"GPTQModel takes {min(wrong)} for something else than the files say.")
    worst, where = 0.0, ""
    for names in layers.values():
        worst, where = max((worst, where), _check_layer(subject, found, names, unpacked))
    return (
        f"All {len(found.packings)} matrices that should be are quantized, the farthest from its original by "
        f"{worst:.1%} ({where}), once the scales that cancel are left out; the other {len(found.kept)} tensors are the "
        "source's own, but for those scales."
    )


def _told(subject: Subject) -> dict[str, Any]:
    return stored_config(subject.parameters, subject.source)


def _headers(one: Packing, rows: int, columns: int) -> Headers:
    """Return type and shape of the tensors that stand for one matrix, as AutoAWQ lays them out."""
    groups = columns // one.group_size
    return {
        "qweight": ("I32", (columns, rows * BITS // WORD_BITS)),
        "qzeros": ("I32", (groups, rows * BITS // WORD_BITS)),
        "scales": ("F16", (groups, rows)),
    }


def _by_layer(found: Contents) -> dict[str, list[str]]:
    """Return the names of the source's tensors that lie in layers, by the beginning that those of a layer share."""
    layers: dict[str, list[str]] = {}
    for name in found.originals:
        if prefix := LAYER_PREFIX.match(name):
            layers.setdefault(prefix[0], []).append(name)
    return layers


def _check_layer(subject: Subject, found: Contents, names: list[str], unpacked: Mapping[str, Any]) -> tuple[float, str]:
    """Return the largest error in a layer and the tensor that has it."""
    folds = Folds()
    shapes = {name: found.originals[name].shape for name in names}
    for name in sorted(names, key=lambda name: len(shapes[name])):  # vectors first: they say what matrices must show
        original = read_tensors(subject.source, {name})[name].float()
        module = name.removesuffix(".weight")
        if module in found.packings:
            # Half of what GPTQ may leave: AWQ rounds each weight to the nearest.
            bound = error_bound(packed.stored_bits(found.packings[module]) + 1)
            folds.add_matrix(name, unpacked_weight(unpacked[module]), original, bound)
            continue
        stored: torch.Tensor = read_tensors(subject.result, {name})[name].float()
        if original.ndim == 1:
            folds.add_vector(name, stored, original)
        else:
            folds.add_matrix(name, stored, original, KEPT_ERROR_MAX)
    folds.require_cancelled()
    return folds.worst
