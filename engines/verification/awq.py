"""An AWQ checkpoint beside its source: tensor by tensor, but for the scales that AWQ moves between them."""

from functools import partial
from typing import Any

from engines.gptq_files import WORD_BITS
from engines.gptqmodel import load_quantized, packed_layers, unpacked_weight
from engines.methods.awq_gemm import BITS, stored_config
from engines.module_rules import Packing
from engines.verification import packed
from engines.verification.checkpoints import check_tokenizer, require_same_tensors
from engines.verification.folding import LAYER_PREFIX, Dense, require_same_layers
from engines.verification.packed import Headers
from engines.verification.subject import Fault, Subject, error_bound

__all__ = ["check_tensors", "check_tokenizer", "layer_bits"]


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
    in_layers = {name for name in found.originals if LAYER_PREFIX.match(name)}
    require_same_tensors(subject, found.kept - in_layers)
    unpacked = dict(packed_layers(load_quantized(subject.result, "awq")))
    if wrong := unpacked.keys() ^ found.packings.keys():
        raise Fault(f"GPTQModel takes {min(wrong)} for something else than the files say.")
    # Half of what GPTQ may leave: AWQ rounds each weight to the nearest.
    dense = {
        name: Dense(partial(unpacked_weight, unpacked[name]), error_bound(packed.stored_bits(one) + 1))
        for name, one in found.packings.items()
    }
    worst, where = require_same_layers(subject, in_layers, dense)
    return (
        f"All {len(found.packings)} matrices that should be are quantized, the farthest from its original by "
        f"{worst:.1%} ({where}), once the scales that cancel are left out; the other {len(found.kept)} tensors are the "
        "source's own, but for those scales."
    )


def _told(subject: Subject) -> dict[str, Any]:
    return stored_config(subject.promises, subject.source)


def _headers(one: Packing, rows: int, columns: int) -> Headers:
    """Return type and shape of the tensors that stand for one matrix, as AutoAWQ lays them out."""
    groups = columns // one.group_size
    return {
        "qweight": ("I32", (columns, rows * BITS // WORD_BITS)),
        "qzeros": ("I32", (groups, rows * BITS // WORD_BITS)),
        "scales": ("F16", (groups, rows)),
    }
