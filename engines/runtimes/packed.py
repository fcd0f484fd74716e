"""GPTQ and AWQ checkpoints: opened by GPTQModel, their layers unpacked once, then run as the reference is, in float32.

Thus what is judged is the weights and not one of many kernels; on a CPU, GPTQModel's portable kernel unpacks every
layer at every window, a hundred times slower.
"""

from pathlib import Path
from typing import Any

from core.errors import ModelUnsupported
from engines.checkpoints import read_tensors
from engines.context import EngineContext
from engines.gptq_files import PACKED
from engines.gptqmodel import Kind, load_quantized, packed_layers, unpacked_weight
from engines.runtimes.huggingface import HuggingFaceRuntime
from engines.source import ANYWHERE, weight_tensors


class PackedRuntime(HuggingFaceRuntime):
    """A GPTQ or AWQ checkpoint's folder, loaded for as long as the ``with`` block lasts."""

    def __init__(self, folder: Path, kind: Kind, context: EngineContext, window_tokens: int) -> None:
        super().__init__(folder, context, window_tokens)
        self._kind = kind

    def load(self, folder: Path, device: str) -> Any:
        """Return the model with dense layers in float32, each on the device as soon as it is unpacked.

        Raises:
            ModelUnsupported: GPTQModel refuses the checkpoint, or knows its tensors under other names.
            SourceInvalid: a shard is missing or damaged.
        """
        import torch

        names = {name for name in weight_tensors(folder, ANYWHERE) if name.rpartition(".")[2] not in PACKED}
        model = load_quantized(folder, self._kind)
        for name, layer in packed_layers(model):
            weight = unpacked_weight(layer)
            dense = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            dense.weight = torch.nn.Parameter(weight.to(device), requires_grad=False)
            if layer.bias is not None:
                dense.bias = torch.nn.Parameter(layer.bias.float(), requires_grad=False)
            model.set_submodule(name, dense)
        model.float()
        # GPTQModel has rounded the rest to float16; the files hold more.
        unknown = model.load_state_dict(read_tensors(folder, names), strict=False).unexpected_keys
        if unknown:
            raise ModelUnsupported(f"The result holds {unknown[0]}, which is no part of the model as it is loaded.")
        return model.to(device)
