"""An independent reader of GPTQ checkpoints: numpy and the documented layout of AutoGPTQ, nothing of GPTQModel.

``qweight`` holds the codes of 32 // bits rows of inputs in each word for 2, 4 and 8 bits, and of 32 rows in three words
for 3: in every case one stream of bits down each column, the lowest first. ``qzeros`` is packed likewise along its rows
and holds each zero point less one. The weight of input ``i`` for output ``o`` is
``scales[g_idx[i], o] * (code[i, o] - zero[g_idx[i], o])``. How many bits a code has, the shapes say.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32


def dequantize(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return the weight of every quantized layer, as ``[out_features, in_features]``, by its module's name."""
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config["checkpoint_format"] == "gptq"  # the first format, which stores zero points less one
    packed = {
        name: tensor for path in folder.glob("*.safetensors") for name, tensor in _load_what_is_packed(path).items()
    }
    modules = {name.removesuffix(".qweight") for name in packed if name.endswith(".qweight")}
    return {module: _weight(packed, module) for module in modules}


def _weight(packed: dict[str, NDArray[Any]], module: str) -> NDArray[np.float32]:
    qweight, qzeros, scales, g_idx = (packed[f"{module}.{part}"] for part in ("qweight", "qzeros", "scales", "g_idx"))
    bits = len(qweight) * WORD_BITS // len(g_idx)
    codes, zeros = unpack(qweight, bits), unpack(qzeros.T, bits).T + 1
    weight = scales.astype(np.float32)[g_idx] * (codes - zeros[g_idx]).astype(np.float32)
    return np.ascontiguousarray(weight.T)


def unpack(words: NDArray[np.int32], bits: int) -> NDArray[np.int64]:
    """Return the codes in each column of ``words``, from one stream of bits, the lowest first."""
    octets = np.ascontiguousarray(words.astype("<i4").T).view(np.uint8)
    stream = np.unpackbits(octets, axis=1, bitorder="little")
    codes = stream.reshape(len(stream), -1, bits).astype(np.int64)
    values: NDArray[np.int64] = (codes << np.arange(bits)).sum(axis=2).T
    return values


def _load_what_is_packed(path: Path) -> dict[str, NDArray[Any]]:
    """Read without bfloat16, which numpy does not know; no packed tensor has it."""
    from safetensors import safe_open

    suffixes = ("qweight", "qzeros", "scales", "g_idx")
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.endswith(suffixes)}  # noqa: SIM118
