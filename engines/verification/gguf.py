"""A GGUF file, or a set of them, beside the lossless one that it was made of: tensor by tensor, key by key."""

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import RequestError
from engines import calibration
from engines.gguf_file import (
    CHAT_TEMPLATE,
    SPLIT_COUNT,
    SPLIT_NUMBER,
    SPLIT_TENSORS,
    GgufModel,
    gguf_in,
    is_matrix,
    open_gguf,
    type_name,
)
from engines.gguf_plan import planned_types, quantizable, type_options
from engines.gguf_types import TensorType, asked_types, stored_as
from engines.imatrix_file import IMATRIX_NAME
from engines.verification.subject import Fault, Subject, error_bound, relative_error
from engines.verification.tokenizers import require_same_template

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LAYER = re.compile(r"blk\.\d+\.")
FILE_TYPE = "general.file_type"
TOKENIZER = "tokenizer."
# What llama-quantize says of an importance matrix: names, which must be no paths of the machine, and counts.
IMATRIX = "quantize.imatrix."
IMATRIX_NAMES = {f"{IMATRIX}file": IMATRIX_NAME, f"{IMATRIX}dataset": calibration.TEXT_NAME}
# Written by the tools themselves
REWRITTEN = {FILE_TYPE, "general.quantization_version", SPLIT_NUMBER, SPLIT_COUNT, SPLIT_TENSORS}
ROW_ELEMENTS = 2**17
FLOATS = {"F32": 32, "F16": 16, "BF16": 16}
FLOAT_ERROR_MAX = {"F32": 0.0, "F16": 1e-3, "BF16": 4e-3}  # beside rounding, F16 loses what is too small for it


def layer_bits(subject: Subject) -> float:
    """Return the mean bits of a weight over the matrices in the layers."""
    tensors = [
        tensor for name, tensor in _read(subject.result).tensors.items() if LAYER.match(name) and is_matrix(tensor)
    ]
    return 8 * sum(int(t.n_bytes) for t in tensors) / sum(int(t.n_elements) for t in tensors)


def check_tensors(subject: Subject) -> str:
    """Compare types with the recipe's, every key with the lossless file's, and every tensor with its original.

    Raises:
        Fault: one is missing, of another shape or type, or too far away; or the file cannot be read.
    """
    result, lossless = _read(subject.result), _read(_lossless(subject))
    _check_type(subject, result)
    _check_imatrix(subject, result)
    _require_same_keys(
        result, lossless, lambda name: not name.startswith((TOKENIZER, IMATRIX)) and name not in REWRITTEN
    )
    stored, originals = result.tensors, lossless.tensors
    if missing := sorted(originals.keys() ^ stored.keys()):
        raise Fault(f"{missing[0]} and {len(missing) - 1} more tensors are missing, or do not belong here.")
    for name, original in originals.items():
        if list(stored[name].shape) != list(original.shape):
            raise Fault(f"{name} has the shape {list(stored[name].shape)}, and its original {list(original.shape)}.")
    fallen = _check_types(subject, result, lossless)
    worst, where, quantized = 0.0, "", 0
    for name, original in originals.items():
        error = _error(name, stored[name], original)
        if stored[name].tensor_type.name not in FLOATS:
            quantized += 1
            worst, where = max((worst, where), (error, name))
    farthest = f", the farthest from its original by {worst:.1%} ({where})" if quantized else ""
    rows = f" {fallen} are stored in larger types than asked for, since their rows are of another length."
    return f"{quantized} of {len(stored)} tensors are quantized{farthest}.{rows if fallen else ''}"


def check_tokenizer(subject: Subject) -> str:
    """Compare vocabulary, special tokens and chat template with the lossless file's, which are proven the source's.

    Raises:
        Fault: they differ.
    """
    result, lossless = _read(subject.result), _read(_lossless(subject))
    require_same_template(result.value(CHAT_TEMPLATE), lossless.value(CHAT_TEMPLATE))
    _require_same_keys(result, lossless, lambda name: name.startswith(TOKENIZER))
    return "Ids, special tokens and chat template are the source's."


def _check_type(subject: Subject, result: GgufModel) -> None:
    import gguf

    found, wanted = result.value(FILE_TYPE), gguf.LlamaFileType[f"MOSTLY_{subject.promises['type']}"]
    if found != wanted:
        raise Fault(f"{FILE_TYPE} is {found}, and {int(wanted)} stands for what was asked for.")


def _check_imatrix(subject: Subject, result: GgufModel) -> None:
    """Require that the file says of an importance matrix what the recipe does, and no path."""
    for name, value in IMATRIX_NAMES.items():
        wanted = value if subject.promises["imatrix"] else None
        if result.value(name) != wanted:
            raise Fault(f"{name} is {result.value(name)!r}, and must be {wanted!r}.")


def _check_types(subject: Subject, result: GgufModel, lossless: GgufModel) -> int:
    """Compare each tensor's type with what it must be, and return how many fell back to a larger one than asked for.

    What a recipe asks for by name is worked out here; what a mixture makes of all the rest, the tool says.
    """
    promised = subject.promises
    choices = tuple(promised[name] for name in ("tensor_types", "token_embedding_type", "output_type"))
    file = gguf_in(_lossless(subject))
    asked = asked_types(quantizable(file), *choices)
    planned = planned_types(file, promised["type"], type_options(*choices), has_imatrix=promised["imatrix"])
    fallen = 0
    for name, original in lossless.tensors.items():
        kind = type_name(result.tensors[name])
        if (wanted := asked.get(name)) is not None:
            stored: TensorType = stored_as(wanted, int(original.shape[0]))
            if kind != stored:
                raise Fault(f"{name} is {kind}, and must be {stored} by what was asked for it.")
            fallen += stored != wanted
        if kind != planned.get(name):
            raise Fault(f"{name} is {kind}, and {promised['type']} makes it {planned.get(name, 'nothing')}.")
    return fallen


def _require_same_keys(result: GgufModel, lossless: GgufModel, is_meant: Callable[[str], bool]) -> None:
    for name in filter(is_meant, sorted(result.fields.keys() | lossless.fields.keys())):
        # The file's own header, which counts the keys, is none of them.
        if not name.startswith("GGUF.") and _bytes_of(result, name) != _bytes_of(lossless, name):
            raise Fault(f"{name} is not as in the converted source.")


def _bytes_of(model: GgufModel, name: str) -> bytes | None:
    field = model.fields.get(name)
    return None if field is None else b"".join(part.tobytes() for part in field.parts)


def _lossless(subject: Subject) -> Path:
    if subject.lossless is None:
        raise ValueError("a GGUF result is verified beside the lossless file that it was made of")
    return subject.lossless


@functools.lru_cache(maxsize=2)  # both files are looked at several times, and a vocabulary takes long to read
def _read(path: Path) -> GgufModel:
    try:
        return open_gguf(gguf_in(path))
    except RequestError:
        raise
    # The reader has no errors of its own: a damaged file fails wherever it is first met.
    except Exception as error:
        raise Fault(f"The GGUF file cannot be read: {error!r}.") from error


def _bits(tensor: Any) -> float:
    return 8 * int(tensor.n_bytes) / int(tensor.n_elements)


def _error(name: str, tensor: Any, original: Any) -> float:
    """Return the tensor's relative error, once it is known to be small enough."""
    error = relative_error(_values(tensor), _values(original))
    kind = tensor.tensor_type.name
    bound = FLOAT_ERROR_MAX[kind] if kind in FLOATS else error_bound(_bits(tensor))
    if not error <= bound:
        raise Fault(f"{name} ({kind}) differs from its original by {error:.1%}; at most {bound:.1%} is sound.")
    return error


def _values(tensor: Any) -> "NDArray[np.float32]":
    """Return a tensor's values, several of its rows in one: gguf takes 16 at a time, and short ones take it long."""
    import gguf

    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    together = math.gcd(len(rows), 1 << max(0, (ROW_ELEMENTS // int(tensor.shape[0])).bit_length() - 1))
    values: NDArray[np.float32] = gguf.dequantize(rows.reshape(len(rows) // together, -1), tensor.tensor_type)
    return values
