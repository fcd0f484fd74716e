"""An independent reader of compressed-tensors checkpoints: numpy and the documented layout, nothing of its library.

``pack-quantized`` keeps the codes of a row in one stream of bits, the lowest first, in words of 32; a code is stored
plus half of its range. Zero points are packed likewise down the columns of ``[outputs, groups]``. ``int-quantized`` and
``float-quantized`` have a byte for each code, the latter E4M3. A weight is ``scale * (code - zero)``, the scale that of
its row, its group of columns, or the whole matrix. ``scale`` may be bfloat16, which numpy does not know: it is the
upper half of a float32.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = {"I8": "<i1", "I32": "<i4", "I64": "<i8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "<u1"}

Floats = NDArray[np.float32]


def dequantize(folder: Path) -> dict[str, Floats]:
    """Return the weight of every quantized layer, as ``[out_features, in_features]``, by its module's name."""
    args = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"]["group_0"][
        "weights"
    ]
    stored = read(folder)
    modules = {name.removesuffix(".weight_scale") for name in stored if name.endswith(".weight_scale")}
    return {module: _weight(stored, module, args) for module in modules}


def _weight(stored: dict[str, NDArray[Any]], module: str, args: dict[str, Any]) -> Floats:
    bits, scales = args["num_bits"], stored[f"{module}.weight_scale"].astype(np.float32)
    zeros: NDArray[Any] = np.zeros_like(scales)
    if f"{module}.weight_packed" in stored:
        rows, columns = stored[f"{module}.weight_shape"].tolist()
        codes = unpack(stored[f"{module}.weight_packed"], bits, columns).astype(np.float32)
        if f"{module}.weight_zero_point" in stored:
            zeros = unpack(stored[f"{module}.weight_zero_point"].T, bits, rows).T.astype(np.float32)
    else:
        codes = stored[f"{module}.weight"].astype(np.float32)
    if args["strategy"] == "group":
        scales, zeros = (np.repeat(one, args["group_size"], axis=1) for one in (scales, zeros))
    return np.asarray(scales * (codes - zeros), dtype=np.float32)


def unpack(words: NDArray[np.int32], bits: int, count: int) -> NDArray[np.int64]:
    """Return the first ``count`` codes of each row, from one stream of bits, the lowest first."""
    octets = np.ascontiguousarray(words).view(np.uint8)
    stream = np.unpackbits(octets, axis=1, bitorder="little")[:, : count * bits].reshape(len(words), count, bits)
    values: NDArray[np.int64] = (stream.astype(np.int64) << np.arange(bits)).sum(axis=2) - 2 ** (bits - 1)
    return values


def read(folder: Path) -> dict[str, NDArray[Any]]:
    """Return every tensor of a folder, bfloat16 and E4M3 as float32."""
    found: dict[str, NDArray[Any]] = {}
    for path in folder.glob("*.safetensors"):
        content = path.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8:begin]).items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                raw = np.frombuffer(content[begin + first : begin + last], TYPES[entry["dtype"]])
                found[name] = _as_float(entry["dtype"], raw).reshape(entry["shape"])
    return found


def _as_float(dtype: str, raw: NDArray[Any]) -> NDArray[Any]:
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return E4M3[raw] if dtype == "F8_E4M3" else raw


def _e4m3() -> Floats:
    """Return the value of each of the 256 codes: a sign, four bits of exponent with bias 7, three of mantissa."""
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    size = np.where(exponent > 0, (1 + mantissa / 8) * 2.0 ** (exponent - 7), mantissa / 8 * 2.0**-6)
    size[(codes & 127) == 127] = np.nan
    return np.where(codes >= 128, -size, size).astype(np.float32)


E4M3 = _e4m3()


def rounding(folder: Path) -> Callable[[str, Floats], Floats]:
    """Return how a server rounds the inputs ``[tokens, in_features]`` of a layer of a given name."""
    group = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"]["group_0"]
    args, stored = group["input_activations"], read(folder)

    def round_inputs(module: str, inputs: Floats) -> Floats:
        if args is None:
            return inputs
        largest = 448.0 if args["type"] == "float" else 127.5  # of symmetric INT8: half of its range of 255 steps
        if args["dynamic"]:
            scales = np.abs(inputs).max(axis=1, keepdims=True) / largest
        else:
            scales = stored[f"{module}.input_scale"].astype(np.float32)
        scaled = inputs / scales
        rounded = _to_e4m3(scaled) if args["type"] == "float" else np.clip(np.round(scaled), -128, 127)
        return np.asarray(rounded * scales, dtype=np.float32)

    return round_inputs


def _to_e4m3(values: Floats) -> Floats:
    """Return the nearest values that E4M3 has, of two equally near ones that with the even code."""
    positive = E4M3[:127]
    size = np.minimum(np.abs(values), positive[-1])
    above = np.clip(np.searchsorted(positive, size), 1, 126)
    middle = (positive[above - 1] + positive[above]) / 2
    upper = (size > middle) | ((size == middle) & (above % 2 == 0))
    return np.asarray(np.sign(values) * positive[np.where(upper, above, above - 1)], dtype=np.float32)


def linear_layers(model: Any) -> dict[str, Any]:
    """Return the linear modules of the layers by name."""
    return {name: module for name, module in model.named_modules() if re.search(r"\.\d+\..*_proj$", name)}
