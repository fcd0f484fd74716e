"""A GGUF file beside the lossless one that it was made of: tensor by tensor, key by key."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engines import pretokenizer
from engines.gguf_file import gguf_in
from engines.methods.gguf import SIXTEEN_BIT_TYPES
from engines.tokenizer import load_tokenizer
from engines.verification.subject import Fault, Subject, error_bound, relative_error
from engines.verification.tokenizers import require_same_template

# What llama-quantize leaves as it is, whatever is asked for: routers, positions, convolutions.
KEPT = re.compile(r"_norm|ffn_gate_inp|position_embd|token_types|ssm_|altup|laurel|per_layer_model_proj")
LAYER = re.compile(r"blk\.\d+\.")
FILE_TYPE = "general.file_type"
REWRITTEN = {FILE_TYPE, "general.quantization_version"}  # by llama-quantize
TOKENIZER = "tokenizer."
TEMPLATE = "tokenizer.chat_template"
FLOATS = {"F32": 32, "F16": 16, "BF16": 16}
FLOAT_ERROR_MAX = {"F32": 0.0, "F16": 1e-3, "BF16": 4e-3}  # beside rounding, F16 loses what is too small for it


def layer_bits(subject: Subject) -> float:
    """Return the mean bits of a weight over the matrices in the layers."""
    tensors = [
        tensor for name, tensor in _tensors(_read(subject.result)).items() if LAYER.match(name) and _is_matrix(tensor)
    ]
    return 8 * sum(int(t.n_bytes) for t in tensors) / sum(int(t.n_elements) for t in tensors)


def check_tensors(subject: Subject) -> str:
    """Compare the type with the recipe's, every key with the lossless file's, and every tensor with its original.

    Raises:
        Fault: one is missing, of another shape or type, or too far away; or the file cannot be read.
    """
    result, lossless = _read(subject.result), _read(_lossless(subject))
    _check_type(subject, result)
    _require_same_keys(result, lossless, lambda name: not name.startswith(TOKENIZER) and name not in REWRITTEN)
    stored, originals = _tensors(result), _tensors(lossless)
    if missing := sorted(originals.keys() ^ stored.keys()):
        raise Fault(f"{missing[0]} and {len(missing) - 1} more tensors are missing, or do not belong here.")
    worst, where, quantized = 0.0, "", 0
    for name, original in originals.items():
        tensor = stored[name]
        if list(tensor.shape) != list(original.shape):
            raise Fault(f"{name} has the shape {list(tensor.shape)}, and its original {list(original.shape)}.")
        is_quantized = tensor.tensor_type.name not in FLOATS
        if _must_be_quantized(subject, name, original) and not is_quantized:
            raise Fault(f"{name} is {tensor.tensor_type.name}: it was not quantized.")
        error = _error(name, tensor, original)
        quantized += is_quantized
        if is_quantized:
            worst, where = max((worst, where), (error, name))
    farthest = f", the farthest from its original by {worst:.1%} ({where})" if quantized else ""
    return f"{quantized} of {len(stored)} tensors are quantized{farthest}."


def check_tokenizer(subject: Subject) -> str:
    """Compare vocabulary, special tokens and chat template with the source's.

    Raises:
        Fault: they differ.
        ModelUnsupported: llama.cpp cannot load the vocabulary.
    """
    result, lossless = _read(subject.result), _read(_lossless(subject))
    template = result.fields.get(TEMPLATE)
    require_same_template(template and template.contents(), load_tokenizer(subject.source).chat_template)
    difference = pretokenizer.difference(subject.source, gguf_in(subject.result))
    if difference is not None:
        raise Fault(f"llama.cpp gives other ids than the source's tokenizer for {difference!r}.")
    _require_same_keys(result, lossless, lambda name: name.startswith(TOKENIZER))
    return "Ids, special tokens and chat template are the source's."


def _check_type(subject: Subject, result: Any) -> None:
    import gguf

    field = result.fields.get(FILE_TYPE)
    wanted = gguf.LlamaFileType[f"MOSTLY_{subject.promises['type']}"]
    if field is None or field.contents() != wanted:
        raise Fault(f"{FILE_TYPE} is {field and field.contents()}, and {int(wanted)} stands for what was asked for.")


def _require_same_keys(result: Any, lossless: Any, is_meant: Callable[[str], bool]) -> None:
    for name in filter(is_meant, sorted(result.fields.keys() | lossless.fields.keys())):
        # The file's own header, which counts the keys, is none of them.
        if not name.startswith("GGUF.") and _bytes_of(result, name) != _bytes_of(lossless, name):
            raise Fault(f"{name} is not as in the converted source.")


def _bytes_of(reader: Any, name: str) -> bytes | None:
    field = reader.fields.get(name)
    return None if field is None else b"".join(part.tobytes() for part in field.parts)


def _lossless(subject: Subject) -> Path:
    if subject.lossless is None:
        raise ValueError("a GGUF result is verified beside the lossless file that it was made of")
    return subject.lossless


def _read(path: Path) -> Any:
    import gguf

    try:
        return gguf.GGUFReader(gguf_in(path))
    # The reader has no errors of its own: a damaged file fails wherever it is first met.
    except Exception as error:
        raise Fault(f"The GGUF file cannot be read: {error!r}.") from error


def _tensors(reader: Any) -> Mapping[str, Any]:
    return {tensor.name: tensor for tensor in reader.tensors}


def _is_matrix(tensor: Any) -> bool:
    return sum(int(size) > 1 for size in tensor.shape) > 1


def _must_be_quantized(subject: Subject, name: str, original: Any) -> bool:
    if subject.promises["type"] in SIXTEEN_BIT_TYPES or not name.endswith("weight"):
        return False
    return _is_matrix(original) and not KEPT.search(name)


def _error(name: str, tensor: Any, original: Any) -> float:
    """Return the tensor's relative error, once it is known to be small enough."""
    import gguf

    found, expected = (gguf.dequantize(one.data, one.tensor_type) for one in (tensor, original))
    error = relative_error(found, expected)
    kind = tensor.tensor_type.name
    bound = FLOAT_ERROR_MAX[kind] if kind in FLOATS else error_bound(8 * int(tensor.n_bytes) / int(tensor.n_elements))
    if not error <= bound:
        raise Fault(f"{name} ({kind}) differs from its original by {error:.1%}; at most {bound:.1%} is sound.")
    return error
