"""What runs a model so that it can be judged: one small port, one file for each library behind it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from engines import gptqmodel, llama_cpp, llmcompressor
from engines.context import EngineContext
from engines.domains import Item
from engines.gguf_file import gguf_in
from engines.methods.base import Format
from engines.tokenizer import TRANSFORMERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Judged = Format | Literal["safetensors"]

# What judges each format, with its version: part of the key under which a score is kept.
_TRANSFORMERS = f"{TRANSFORMERS} on torch 2.13.0"
ENGINES: Mapping[Judged, str] = {
    "gguf": llama_cpp.VERSION,
    "gptq": f"{gptqmodel.VERSION}, {_TRANSFORMERS}",
    "awq": f"{gptqmodel.VERSION}, {_TRANSFORMERS}",
    "compressed-tensors": f"{llmcompressor.READER}, {_TRANSFORMERS}",
    "safetensors": _TRANSFORMERS,
}


class Runtime(Protocol):
    """A loaded model."""

    def logits(self, item: Item) -> "NDArray[np.float32]":
        """Return the logits that predict the scored tokens of one item.

        Args:
            item: of at most ``WINDOW_TOKENS`` ids.

        Returns:
            an array of shape ``[len(item.targets), vocabulary]``; row 0 predicts the first of them. Valid until the
            next call.

        Raises:
            DoesNotFit: memory ran out.
        """
        ...

    def continuation(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return how the model goes on: at each place the likeliest token, whatever it means.

        Args:
            prompt: ids.
            count: how many tokens to add; with the prompt at most ``WINDOW_TOKENS``.

        Raises:
            DoesNotFit: memory ran out.
        """
        ...


def open_runtime(written: Judged, model: Path, context: EngineContext) -> AbstractContextManager[Runtime]:
    """Return the runtime that judges a format, to be entered with ``with``.

    Args:
        written: the format: ``gguf`` goes to llama.cpp, ``safetensors`` to transformers in float32, ``gptq`` and
            ``awq`` there by way of GPTQModel, ``compressed-tensors`` by way of the library of that name.
        model: the folder; for ``gguf`` it holds one ``.gguf`` file or a set of them, or is the first file.
        context: threads and device.
    """
    if written == "gguf":
        from engines.runtimes.llama_cpp import LlamaCppRuntime

        return LlamaCppRuntime(gguf_in(model), context)
    if written in ("gptq", "awq"):
        from engines.runtimes.packed import PackedRuntime

        return PackedRuntime(model, written, context)
    if written == "compressed-tensors":
        from engines.runtimes.compressed_tensors import CompressedTensorsRuntime

        return CompressedTensorsRuntime(model, context)
    from engines.runtimes.huggingface import HuggingFaceRuntime

    return HuggingFaceRuntime(model, context)
