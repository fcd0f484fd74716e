"""What GPTQ and AWQ checkpoints have in common beside their source: which tensors there must be, and what they say."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engines.gptq_files import matrices, read_quantization_config, read_tensors
from engines.module_rules import Packing, packing
from engines.source import ANYWHERE, CONFIG_NAME, OUTPUT_HEADS, is_stacked, weight_tensors
from engines.tokenizer import load_tokenizer
from engines.verification.subject import Fault, Subject
from engines.verification.tokenizers import require_same
from engines.weights import StoredTensor, read_json_object

SCALE_BITS = 16
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")

# What stands for one matrix of so many rows and columns: types and shapes by the ends of their names.
Headers = Mapping[str, tuple[str, tuple[int, ...]]]


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
        Fault: the configuration says something else, or there are experts that would pass for what is kept.
        SourceInvalid: a shard is missing or damaged.
    """
    _require_told(subject, {**told, "quant_method": subject.written})
    stored, originals = (weight_tensors(folder, ANYWHERE) for folder in (subject.result, subject.source))
    if stacked := sorted(name for name, tensor in originals.items() if is_stacked(name, tensor)):
        raise Fault(f"{stacked[0]} holds many matrices, and no reader of this format knows them as one tensor.")
    for name in _tied_heads(subject, stored, originals):
        del originals[name]
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
    if missing := sorted(expected.keys() - found.stored.keys()):
        raise Fault(f"{missing[0]} and {len(missing) - 1} more tensors are missing.")
    if extra := sorted(found.stored.keys() - expected.keys()):
        raise Fault(f"{extra[0]} and {len(extra) - 1} more tensors do not belong here.")
    for name, (dtype, shape) in expected.items():
        if (found.stored[name].dtype, found.stored[name].shape) != (dtype, shape):
            is_now = f"{found.stored[name].dtype} {list(found.stored[name].shape)}"
            raise Fault(f"{name} is {is_now}, and must be {dtype} {list(shape)}.")


def require_same_tensors(subject: Subject, names: Iterable[str]) -> None:
    """Compare tensors of the result with the source's, to the bit.

    Raises:
        Fault: one is another.
    """
    import torch

    kept = read_tensors(subject.result, set(names))
    for name, original in read_tensors(subject.source, set(kept)).items():
        if not torch.equal(kept[name], original):
            raise Fault(f"{name} is not quantized, and yet not the source's own.")


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


def check_tokenizer(subject: Subject) -> str:
    """Compare the tokenizer beside the checkpoint with the source's.

    Raises:
        Fault: they differ.
        ModelUnsupported: it cannot be loaded.
    """
    require_same(load_tokenizer(subject.result), load_tokenizer(subject.source))
    return "Ids, special tokens and chat template are the source's."


def _require_told(subject: Subject, told: Mapping[str, Any]) -> None:
    """Compare what servers are told of the format with the recipe; of rules also their order, since the first holds."""
    said = read_quantization_config(subject.result)
    for name, value in {"dynamic": {}, **told}.items():
        ours, theirs = said.get(name) or value.__class__(), value
        if ours != theirs or (isinstance(theirs, Mapping) and list(ours) != list(theirs)):
            raise Fault(f"{name} is {said.get(name)!r} in its quantization_config, and must be {value!r}.")


def _tied_heads(
    subject: Subject, stored: Mapping[str, StoredTensor], originals: Mapping[str, StoredTensor]
) -> set[str]:
    """Return what is absent and was stored twice at the source: an output head that is the embedding's own."""
    import torch

    heads = {name for name in set(originals).difference(stored) if name.endswith(tuple(OUTPUT_HEADS))}
    config = read_json_object(subject.source / CONFIG_NAME)
    if not heads or not config.get("tie_word_embeddings", True):
        return set()
    embeddings = {name for name in originals if name.endswith(EMBEDDINGS)}
    tensors = read_tensors(subject.source, heads | embeddings)
    return {head for head in heads if any(torch.equal(tensors[head], tensors[name]) for name in embeddings)}
