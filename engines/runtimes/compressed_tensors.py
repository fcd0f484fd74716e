"""compressed-tensors checkpoints: unpacked once by transformers and compressed-tensors, then run in float32.

Weights are what the codes and scales say; inputs of a layer are rounded as a server rounds them, where the scheme
rounds activations, and multiplied in float32. So what is judged is the rounding and not one of many kernels.
"""

from pathlib import Path
from typing import Any

from engines.experts_apart import load_with_experts_apart
from engines.runtimes.huggingface import HuggingFaceRuntime


class CompressedTensorsRuntime(HuggingFaceRuntime):
    """A compressed-tensors checkpoint's folder, loaded for as long as the ``with`` block lasts."""

    def load(self, folder: Path, device: str) -> Any:
        """Return the model as ``load_dense`` does."""
        return load_dense(folder, device)


def load_dense(folder: Path, device: str = "cpu") -> Any:
    """Return the model with dense weights in float32; see ``load_model`` for what is raised."""
    from compressed_tensors.offload import remove_dispatch
    from transformers import CompressedTensorsConfig

    unpacked = CompressedTensorsConfig(dequantize=True)
    model = load_with_experts_apart(folder, quantization_config=unpacked, device_map=device)
    return remove_dispatch(model).to(device)  # its modules would stay in main memory, whatever they are moved to
