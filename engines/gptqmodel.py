"""GPTQModel as it is used here: its version, how a GPTQ checkpoint is opened, and what it says of its losses.

It is the successor of AutoGPTQ, and reads and writes the same files. The one module that knows its interface; refuses
to know recipes. Its automatic choice of kernels for a checkpoint downloads and compiles, so the portable one is always
named; while it quantizes on CUDA it compiles one extension all the same.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import ModelUnsupported
from engines.context import Measurement

VERSION = "gptqmodel 7.6.0"

# What its log calls a module's loss, the damping that was used, and the seconds that it took.
_LOGGED = {"loss": "loss", "damp": "damp_percent", "time": "seconds"}
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


def load_to_quantize(folder: Path, config: Mapping[str, Any], device: str, dtype: str) -> Any:
    """Return a full-precision model that GPTQModel can quantize.

    Args:
        folder: the source.
        config: arguments of its ``GPTQConfig``.
        device: where to compute.
        dtype: in what to compute, as torch names it.

    Raises:
        ModelUnsupported: it does not know the architecture.
    """
    import torch
    from gptqmodel import GPTQModel
    from gptqmodel.quantization.config import GPTQConfig

    try:
        return GPTQModel.load(str(folder), GPTQConfig(**config), device=device, dtype=getattr(torch, dtype))
    except TypeError as error:  # "… isn't supported yet."
        raise ModelUnsupported(f"GPTQModel cannot quantize this model: {error}") from error


def load_quantized(folder: Path) -> Any:
    """Return a transformers model on the CPU whose quantized layers are GPTQModel's, still packed.

    Its scales are the file's own, which are float16; the rest is rounded to that, too.

    Raises:
        ModelUnsupported: GPTQModel refuses the checkpoint.
    """
    import torch
    from gptqmodel import BACKEND, GPTQModel

    try:
        loaded = GPTQModel.load(
            str(folder), backend=BACKEND.GPTQ_TORCH, device="cpu", dtype=torch.float16, trust_remote_code=False
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    # A damaged checkpoint fails wherever the loader first meets the damage.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelUnsupported(f"GPTQModel cannot load the result ({reason}).") from error
    return loaded.model


def packed_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the module of each quantized layer."""
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseQuantLinear):
            yield name, module


def unpacked_weight(layer: Any) -> Any:
    """Return a quantized layer's weight as a float32 tensor of shape ``[out_features, in_features]``."""
    layer.scales = layer.scales.float()  # the codes are exact, and so is their product then
    # The class's own method: the layer's is wrapped to be compiled at its first call, which takes seconds a shape.
    return type(layer).dequantize_weight(layer).T.float().contiguous()


def measurements(logged: Sequence[Mapping[str, Any]]) -> Iterator[Measurement]:
    """Yield what GPTQModel's log says of each module; what it has no number for is left out."""
    for entry in logged:
        values = {
            name: float(entry[key])
            for key, name in _LOGGED.items()
            if _NUMBER.fullmatch(str(entry.get(key))) and math.isfinite(float(entry[key]))
        }
        yield Measurement(int(entry["layer"]), str(entry["module"]), values)
