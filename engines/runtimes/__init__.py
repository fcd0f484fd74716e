"""What runs a model so that it can be judged: one small port, one file for each library behind it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from engines import gptqmodel, llama_cpp, llmcompressor
from engines.context import EngineContext
from engines.gguf_file import gguf_in
from engines.methods.base import Format
from engines.tokenizer import TRANSFORMERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Judged = Format | Literal["safetensors"]

# llama-perplexity's window: its first half is context alone, its second half is scored but for the last prediction,
# whose answer lies in the next window.
WINDOW_TOKENS = 512
CONTEXT_TOKENS = 257
SCORED_TOKENS = WINDOW_TOKENS - CONTEXT_TOKENS

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

    def logits(self, window: Sequence[int]) -> "NDArray[np.float32]":
        """Return the logits that predict the scored tokens of one window.

        Args:
            window: ``WINDOW_TOKENS`` ids.

        Returns:
            an array of shape ``[SCORED_TOKENS, vocabulary]``; row 0 predicts token ``CONTEXT_TOKENS``. Valid until the
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
