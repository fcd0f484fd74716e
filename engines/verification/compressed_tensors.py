"""A compressed-tensors checkpoint beside its source: tensor by tensor, as the library of that name unpacks it."""

from collections.abc import Collection
from functools import partial
from typing import Any

from engines.checkpoints import Shards, matrices
from engines.compressed_files import WORD_BITS, Scheme, read_quantization_config
from engines.runtimes.compressed_tensors import load_dense
from engines.verification.checkpoints import (
    Header,
    check_tokenizer,
    require_headers,
    require_near,
    require_same_tensors,
    stored_and_originals,
)
from engines.verification.folding import LAYER_PREFIX, Dense, require_same_layers
from engines.verification.subject import Fault, Subject, error_bound

__all__ = ["check_tensors", "check_tokenizer", "layer_bits"]

FLOAT_BITS = 6.0  # E4M3 is about as far from its original as integers of so many bits, with a scale for each row
ROUNDED_INPUT_BITS = 6.5  # inputs that are rounded, too, to integers of 8 bits add about as much as this
CODES = {"float-quantized": "F8_E4M3", "int-quantized": "I8"}


def layer_bits(subject: Subject) -> float:
    """Return how many bits of weights alone, as integers, would lose about as much as this."""
    scheme = _scheme(subject)
    if scheme.type == "float":
        return FLOAT_BITS
    return scheme.weight_bits if scheme.activations == "none" else ROUNDED_INPUT_BITS


def check_tensors(subject: Subject) -> str:
    """Compare what the files hold with what the recipe and the source say they must hold.

    Raises:
        Fault: a tensor is missing, of another shape or type, or too far from its original.
        SourceInvalid: a shard is missing or damaged.
        ModelUnsupported: transformers cannot read the checkpoint.
    """
    scheme = _scheme(subject)
    stored, originals = stored_and_originals(subject)
    meant = matrices(originals, output_head=True)
    wanted = {module for module in meant if scheme.quantizes(module)}
    _check_config(subject, scheme, wanted, meant.keys() - wanted)
    expected: dict[str, Header] = {name: (tensor.dtype, tensor.shape) for name, tensor in originals.items()}
    for module in wanted:
        expected |= _headers(scheme, module, expected.pop(f"{module}.weight"))
    require_headers(stored, expected)
    kept = originals.keys() - {f"{module}.weight" for module in wanted}
    worst, where = _check_weights(subject, scheme, wanted, kept)
    return (
        f"All {len(wanted)} matrices that should be are quantized, the farthest from its original by {worst:.1%} "
        f"({where}); the other {len(kept)} tensors are the source's own"
        + ("." if scheme.smoothing == "none" else ", but for scales that cancel.")
    )


def _scheme(subject: Subject) -> Scheme:
    return Scheme(**subject.promises)


def _check_config(subject: Subject, scheme: Scheme, wanted: Collection[str], left_out: Collection[str]) -> None:
    """Compare what servers are told of the format with the recipe."""
    told = read_quantization_config(subject.result)
    for name, value in {"quant_method": "compressed-tensors", "format": scheme.format}.items():
        if told.get(name) != value:
            raise Fault(f"{name} is {told.get(name)!r} in its quantization_config, and must be {value!r}.")
    groups = list((told.get("config_groups") or {}).values())
    if len(groups) != 1 or groups[0].get("targets") != ["Linear"]:
        raise Fault("Its quantization_config must have one group, for all linear layers.")
    for part, arguments in scheme.config_group().items():
        found: dict[str, Any] = groups[0].get(part) or {}
        for name, value in (arguments or {}).items():
            if found.get(name) != value:
                raise Fault(f"{name} of {part} is {found.get(name)!r} in its configuration, and must be {value!r}.")
        if found and not arguments:
            raise Fault(f"Its quantization_config says how {part} are rounded, and the recipe does not.")
    ignored = set(told.get("ignore") or ())
    if wrong := sorted(ignored.intersection(wanted)) or sorted(set(left_out) - ignored):
        raise Fault(f"Its quantization_config says of {wrong[0]} that it is {'not ' * (wrong[0] in ignored)}quantized.")


def _headers(scheme: Scheme, module: str, original: Header) -> dict[str, Header]:
    """Return type and shape of the tensors that stand for one matrix."""
    dtype, (rows, columns) = original
    groups = columns // scheme.group_size if scheme.group_size > 0 else 1
    found: dict[str, Header] = {"weight_scale": (dtype, (rows, groups) if scheme.group_size else (1,))}
    if scheme.format == "pack-quantized":
        found["weight_packed"] = ("I32", (rows, columns * scheme.bits // WORD_BITS))
        found["weight_shape"] = ("I64", (2,))
        if not scheme.symmetric:
            found["weight_zero_point"] = ("I32", (-(-rows * scheme.bits // WORD_BITS), groups))
    else:
        found["weight"] = (CODES[scheme.format], (rows, columns))
    if scheme.activations == "static":
        found["input_scale"] = (dtype, (1,))
    return {f"{module}.{part}": header for part, header in found.items()}


def _check_weights(
    subject: Subject, scheme: Scheme, wanted: Collection[str], kept: Collection[str]
) -> tuple[float, str]:
    """Return the largest error of a quantized matrix, and the matrix."""
    # AWQ leaves half of what GPTQ may: it rounds each weight to the nearest.
    bits = scheme.weight_bits + (scheme.smoothing == "pairs")
    bound = error_bound(FLOAT_BITS if scheme.type == "float" else bits)
    modules = dict(load_dense(subject.result).named_modules())
    weights = {module: partial(_weight_of, modules[module]) for module in wanted}
    if scheme.smoothing != "none":
        in_layers = {name for name in (*kept, *(f"{one}.weight" for one in wanted)) if LAYER_PREFIX.match(name)}
        require_same_tensors(subject, set(kept) - in_layers)
        return require_same_layers(subject, in_layers, {one: Dense(weight, bound) for one, weight in weights.items()})
    require_same_tensors(subject, kept)
    source = Shards(subject.source)
    return max(
        ((require_near(source, one, weight(), bound), one) for one, weight in weights.items()), default=(0.0, "")
    )


def _weight_of(module: Any) -> Any:
    return module.weight.detach().float()
