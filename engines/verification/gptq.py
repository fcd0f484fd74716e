"""A GPTQ checkpoint beside its source: tensor by tensor, as GPTQModel unpacks it."""

import math
from typing import Any

from engines.gptq_files import PACKED, read_tensors
from engines.gptqmodel import load_quantized, packed_layers, unpacked_weight
from engines.source import ANYWHERE, CONFIG_NAME, LAYER, weight_tensors
from engines.tokenizer import load_tokenizer
from engines.verification.subject import Fault, Subject, error_bound, relative_error
from engines.verification.tokenizers import require_same
from engines.weights import StoredTensor, read_json_object

WORD_BITS = 32
SCALE_BITS = 16
OUTPUT_HEAD = "lm_head.weight"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
ROUTER = "gate.weight"  # chooses experts; GPTQ leaves it as it is


def layer_bits(subject: Subject) -> float:
    """Return bits of a quantized weight, scales and zero points included."""
    bits, group_size = subject.parameters["bits"], subject.parameters["group_size"]
    return float(bits if group_size < 0 else bits + (SCALE_BITS + bits) / group_size)


def check_tensors(subject: Subject) -> str:
    """Compare what the files hold with what the recipe and the source say they must hold.

    Raises:
        Fault: a tensor is missing, of another shape or type, or too far from its original.
        SourceInvalid: a shard is missing or damaged.
        ModelUnsupported: GPTQModel cannot read the checkpoint.
    """
    stored, originals = (weight_tensors(folder, ANYWHERE) for folder in (subject.result, subject.source))
    for name in _tied_heads(subject, stored, originals):
        del originals[name]
    wanted = {name.removesuffix(".weight") for name, tensor in originals.items() if _is_quantized(name, tensor)}
    _check_config(subject)
    _check_headers(subject, stored, originals, wanted)
    _check_order(subject, wanted)
    _check_kept(subject, originals.keys() - {f"{name}.weight" for name in wanted})
    worst, where = _check_packed(subject, wanted)
    return (
        f"All {len(wanted)} matrices of the layers are quantized, the farthest from its original by {worst:.1%} "
        f"({where}); the other {len(originals) - len(wanted)} tensors are the source's own."
    )


def check_tokenizer(subject: Subject) -> str:
    """Compare the tokenizer beside the checkpoint with the source's.

    Raises:
        Fault: they differ.
        ModelUnsupported: it cannot be loaded.
    """
    require_same(load_tokenizer(subject.result), load_tokenizer(subject.source))
    return "Ids, special tokens and chat template are the source's."


def _tied_heads(subject: Subject, stored: dict[str, StoredTensor], originals: dict[str, StoredTensor]) -> set[str]:
    """Return what is absent and was stored twice at the source: an output head that is the embedding's own."""
    import torch

    heads = {name for name in originals.keys() - stored.keys() if name.endswith(OUTPUT_HEAD)}
    config = read_json_object(subject.source / CONFIG_NAME)
    if not heads or not config.get("tie_word_embeddings", True):
        return set()
    embeddings = {name for name in originals if name.endswith(EMBEDDINGS)}
    tensors = read_tensors(subject.source, heads | embeddings)
    return {head for head in heads if any(torch.equal(tensors[head], tensors[name]) for name in embeddings)}


def _is_quantized(name: str, tensor: StoredTensor) -> bool:
    is_matrix = len(tensor.shape) == 2 and name.endswith(".weight")  # noqa: PLR2004
    return is_matrix and bool(LAYER.search(name)) and not name.endswith(ROUTER)


def _check_config(subject: Subject) -> None:
    """Compare what servers are told of the format with the recipe."""
    told = read_json_object(subject.result / CONFIG_NAME).get("quantization_config") or {}
    asked = {name: subject.parameters[name] for name in ("bits", "group_size", "desc_act", "sym")}
    for name, value in {**asked, "quant_method": "gptq", "checkpoint_format": "gptq"}.items():
        if told.get(name) != value:
            raise Fault(f"{name} is {told.get(name)!r} in its quantization_config, and must be {value!r}.")


def _check_headers(
    subject: Subject, stored: dict[str, StoredTensor], originals: dict[str, StoredTensor], wanted: set[str]
) -> None:
    expected = {name: (tensor.dtype, tensor.shape) for name, tensor in originals.items()}
    for name in wanted:
        _, (rows, columns) = expected.pop(f"{name}.weight")
        expected |= _packed_headers(subject, name, rows, columns)
    if missing := sorted(expected.keys() - stored.keys()):
        raise Fault(f"{missing[0]} and {len(missing) - 1} more tensors are missing.")
    if extra := sorted(stored.keys() - expected.keys()):
        raise Fault(f"{extra[0]} and {len(extra) - 1} more tensors do not belong here.")
    for name, (dtype, shape) in expected.items():
        if (stored[name].dtype, stored[name].shape) != (dtype, shape):
            found = f"{stored[name].dtype} {list(stored[name].shape)}"
            raise Fault(f"{name} is {found}, and must be {dtype} {list(shape)}.")


def _packed_headers(subject: Subject, name: str, rows: int, columns: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of the tensors that stand for one matrix, as AutoGPTQ lays them out."""
    bits, group_size = subject.parameters["bits"], subject.parameters["group_size"]
    groups = 1 if group_size < 0 else math.ceil(columns / group_size)
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "qweight": ("I32", (columns * bits // WORD_BITS, rows)),
        "qzeros": ("I32", (groups, rows * bits // WORD_BITS)),
        "scales": ("F16", (groups, rows)),
        "g_idx": ("I32", (columns,)),
    }
    return {f"{name}.{part}": shapes[part] for part in PACKED}


def _check_order(subject: Subject, wanted: set[str]) -> None:
    """Without ``desc_act`` servers do not look at ``g_idx``: groups must be one after the other."""
    import torch

    if subject.parameters["desc_act"]:
        return
    group_size = subject.parameters["group_size"]
    for name, groups in read_tensors(subject.result, {f"{name}.g_idx" for name in wanted}).items():
        columns = torch.arange(len(groups), dtype=groups.dtype)
        if not torch.equal(groups, columns // group_size if group_size > 0 else torch.zeros_like(columns)):
            raise Fault(f"{name} is out of order, and desc_act is not set.")


def _check_kept(subject: Subject, names: set[str]) -> None:
    import torch

    kept = read_tensors(subject.result, names)
    for name, original in read_tensors(subject.source, names).items():
        if not torch.equal(kept[name], original):
            raise Fault(f"{name} is not quantized, and yet not the source's own.")


def _check_packed(subject: Subject, wanted: set[str]) -> tuple[float, str]:
    bound = error_bound(layer_bits(subject))
    worst, where, seen = 0.0, "", set[str]()
    for name, layer in packed_layers(load_quantized(subject.result)):
        original: Any = read_tensors(subject.source, {f"{name}.weight"})[f"{name}.weight"]
        error = relative_error(unpacked_weight(layer).numpy(), original.float().numpy())
        if not error <= bound:
            raise Fault(f"{name} differs from its original by {error:.1%}, and {bound:.1%} would be much for its bits.")
        worst, where = max((worst, where), (error, name))
        seen.add(name)
    if seen != wanted:
        raise Fault(f"GPTQModel takes {min(seen ^ wanted)} for something else than the files say.")
    return worst, where
