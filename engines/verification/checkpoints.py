"""What all folders of safetensors have in common beside their source, whatever layout their quantized layers have."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from engines.checkpoints import Shards, read_tensors
from engines.source import ANYWHERE, CONFIG_NAME, OUTPUT_HEADS, is_stacked, weight_tensors
from engines.tokenizer import load_tokenizer
from engines.verification.subject import Fault, Subject, relative_error
from engines.verification.tokenizers import require_same
from engines.weights import StoredTensor, read_json_object

if TYPE_CHECKING:
    import torch

EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")

# Safetensors' name of the type, and the shape.
Header = tuple[str, tuple[int, ...]]


def stored_and_originals(subject: Subject) -> tuple[Mapping[str, StoredTensor], Mapping[str, StoredTensor]]:
    """Return what the result holds, and what of the source it must stand for: an output head stored twice counts once.

    Raises:
        Fault: the source holds the experts of a layer as one tensor, which would pass for something that is kept.
        SourceInvalid: a shard is missing or damaged.
    """
    stored, originals = (weight_tensors(folder, ANYWHERE) for folder in (subject.result, subject.source))
    if stacked := sorted(name for name, tensor in originals.items() if is_stacked(name, tensor)):
        raise Fault(f"{stacked[0]} holds the matrices of many experts, and no reader of this format looks for it.")
    for name in _tied_heads(subject, stored, originals):
        del originals[name]
    return stored, originals


def require_headers(stored: Mapping[str, StoredTensor], expected: Mapping[str, Header]) -> None:
    """Compare names, types and shapes.

    Raises:
        Fault: a tensor is missing, is too many, or is another than it must be.
    """
    if missing := sorted(expected.keys() - stored.keys()):
        raise Fault(f"{missing[0]} and {len(missing) - 1} more tensors are missing.")
    if extra := sorted(stored.keys() - expected.keys()):
        raise Fault(f"{extra[0]} and {len(extra) - 1} more tensors do not belong here.")
    for name, (dtype, shape) in expected.items():
        if (stored[name].dtype, stored[name].shape) != (dtype, shape):
            is_now = f"{stored[name].dtype} {list(stored[name].shape)}"
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


def require_near(source: Shards, module: str, found: "torch.Tensor", error_max: float) -> float:
    """Return how far a quantized weight is from its original, as a part of the original's norm.

    Args:
        source: the originals.
        module: the weight's module.
        found: what it stands for, dense.
        error_max: how far it may be.

    Raises:
        Fault: it is further.
    """
    (original,) = source.read([f"{module}.weight"]).values()
    error = relative_error(found.numpy(), original.float().numpy())
    if not error <= error_max:
        raise Fault(
            f"{module} differs from its original by {error:.1%}, and {error_max:.1%} would be much for its bits."
        )
    return error


def check_tokenizer(subject: Subject) -> str:
    """Compare the tokenizer beside the checkpoint with the source's.

    Raises:
        Fault: they differ.
        ModelUnsupported: it cannot be loaded.
    """
    require_same(load_tokenizer(subject.result), load_tokenizer(subject.source))
    return "Ids, special tokens and chat template are the source's."


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
