"""A GPTQ checkpoint beside its source: tensor by tensor, as GPTQModel unpacks it."""

import math

from engines.checkpoints import Shards, read_tensors
from engines.gptq_files import WORD_BITS
from engines.gptqmodel import load_quantized, packed_layers, unpacked_weight
from engines.methods.gptq import stored_config
from engines.module_rules import Packing
from engines.verification import packed
from engines.verification.checkpoints import check_tokenizer, require_near, require_same_tensors
from engines.verification.packed import Contents, Headers
from engines.verification.subject import Fault, Subject, error_bound

__all__ = ["check_tensors", "check_tokenizer", "layer_bits"]


def layer_bits(subject: Subject) -> float:
    """Return bits of a quantized weight, scales and zero points included."""
    return packed.layer_bits(subject, stored_config(subject.promises))


def check_tensors(subject: Subject) -> str:
    """Compare what the files hold with what the recipe and the source say they must hold.

    Raises:
        Fault: a tensor is missing, of another shape or type, or too far from its original.
        SourceInvalid: a shard is missing or damaged.
        ModelUnsupported: GPTQModel cannot read the checkpoint.
    """
    found = packed.contents(subject, {**stored_config(subject.promises), "checkpoint_format": "gptq"})
    packed.require_headers(found, _headers)
    _check_order(subject, found)
    require_same_tensors(subject, found.kept)
    worst, where = _check_packed(subject, found)
    return (
        f"All {len(found.packings)} matrices that should be are quantized, the farthest from its original by "
        f"{worst:.1%} ({where}); the other {len(found.kept)} tensors are the source's own."
    )


def _headers(one: Packing, rows: int, columns: int) -> Headers:
    """Return type and shape of the tensors that stand for one matrix, as AutoGPTQ lays them out."""
    groups = 1 if one.group_size < 0 else math.ceil(columns / one.group_size)
    return {
        "qweight": ("I32", (columns * one.bits // WORD_BITS, rows)),
        "qzeros": ("I32", (groups, rows * one.bits // WORD_BITS)),
        "scales": ("F16", (groups, rows)),
        "g_idx": ("I32", (columns,)),
    }


def _check_order(subject: Subject, found: Contents) -> None:
    """Without ``desc_act`` servers do not look at ``g_idx``: groups must be one after the other."""
    import torch

    in_order = {name: one for name, one in found.packings.items() if not one.desc_act}
    groups = read_tensors(subject.result, {f"{name}.g_idx" for name in in_order})
    for name, one in in_order.items():
        stored = groups[f"{name}.g_idx"]
        columns = torch.arange(len(stored), dtype=stored.dtype)
        if not torch.equal(stored, columns // one.group_size if one.group_size > 0 else torch.zeros_like(columns)):
            raise Fault(f"{name} is out of order, and desc_act is not set.")


def _check_packed(subject: Subject, found: Contents) -> tuple[float, str]:
    worst, where, seen = 0.0, "", set[str]()
    source = Shards(subject.source)
    for name, layer in packed_layers(load_quantized(subject.result, "gptq")):
        if name not in found.packings:
            raise Fault(f"GPTQModel takes {name} for quantized, and it should not be.")
        bound = error_bound(packed.stored_bits(found.packings[name]))
        worst, where = max((worst, where), (require_near(source, name, unpacked_weight(layer), bound), name))
        seen.add(name)
    if missing := found.packings.keys() - seen:
        raise Fault(f"GPTQModel takes {min(missing)} for something else than the files say.")
    return worst, where
