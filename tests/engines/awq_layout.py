"""An independent reader of AWQ checkpoints: numpy and the documented ``gemm`` layout of AutoAWQ, nothing of GPTQModel.

``qweight`` is ``[in_features, out_features / 8]``: each word holds the 4-bit codes of eight outputs, the lowest bits
first, in the order 0, 2, 4, 6, 1, 3, 5, 7. ``qzeros`` holds the zero points of each group likewise, and as they are.
The weight of input ``i`` for output ``o`` is ``scales[i // group_size, o] * (code[i, o] - zero[i // group_size, o])``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODE_BITS = 4
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def dequantize(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return the weight of every quantized layer, as ``[out_features, in_features]``, by its module's name."""
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert (config["quant_method"], config["version"], config["bits"]) == ("awq", "gemm", CODE_BITS)
    packed = {
        name: tensor for path in folder.glob("*.safetensors") for name, tensor in _load_what_is_packed(path).items()
    }
    modules = {name.removesuffix(".qweight") for name in packed if name.endswith(".qweight")}
    return {module: _weight(packed, module, config["group_size"]) for module in modules}


def _weight(packed: dict[str, NDArray[Any]], module: str, group_size: int) -> NDArray[np.float32]:
    qweight, qzeros, scales = (packed[f"{module}.{part}"] for part in ("qweight", "qzeros", "scales"))
    groups = np.arange(len(qweight)) // group_size
    weight = scales.astype(np.float32)[groups] * (unpack(qweight) - unpack(qzeros)[groups]).astype(np.float32)
    return np.ascontiguousarray(weight.T)


def unpack(words: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the codes of each row of ``words``, in the order of the outputs."""
    codes = np.empty((len(words), words.shape[1], len(ORDER)), dtype=np.int64)
    for place, output in enumerate(ORDER):
        codes[:, :, output] = (words.view(np.uint32) >> (CODE_BITS * place)) & (2**CODE_BITS - 1)
    return codes.reshape(len(words), -1)


def _load_what_is_packed(path: Path) -> dict[str, NDArray[Any]]:
    """Read without bfloat16, which numpy does not know; no packed tensor has it."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        names = [name for name in file.keys() if name.endswith(("qweight", "qzeros", "scales"))]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}
