"""What runs a model so that it can be judged: one small port, one file for each library behind it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from engines import gptqmodel, llama_cpp, llmcompressor
from engines.context import EngineContext
from engines.domains import WINDOW_TOKENS, Item
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


IsOver = Callable[[Sequence[int]], bool]


def never(_: Sequence[int]) -> bool:
    """Return that a model goes on for as long as it may."""
    return False


def readable(asked: int, learned: int | None) -> int:
    """Return how many tokens a model reads at once, at most: a window of text always, more where it has learned to."""
    return max(WINDOW_TOKENS, min(asked, learned or asked))


class Runtime(Protocol):
    """A loaded model."""

    @property
    def window_tokens(self) -> int:
        """How many tokens it reads at once, at most; see ``readable``."""
        ...

    def logits(self, item: Item) -> "NDArray[np.float32]":
        """Return the logits that predict the scored tokens of one item.

        Args:
            item: of at most ``window_tokens`` ids.

        Returns:
            an array of shape ``[len(item.targets), vocabulary]``; row 0 predicts the first of them. Valid until the
            next call.

        Raises:
            DoesNotFit: memory ran out.
        """
        ...

    def continuation(self, prompt: Sequence[int], count: int, is_over: IsOver = never) -> list[int]:
        """Return how the model goes on: at each place the likeliest token, whatever it means.

        Args:
            prompt: ids.
            count: how many tokens to add at most; with the prompt no more than ``window_tokens``.
            is_over: told after each token all that were added; true ends it there.

        Raises:
            DoesNotFit: memory ran out.
        """
        ...

    def text(self, ids: Sequence[int]) -> str:
        """Return what ids say, by the model's own tokenizer; the names of special tokens are said, too."""
        ...


def open_runtime(
    written: Judged, model: Path, context: EngineContext, window_tokens: int = WINDOW_TOKENS
) -> AbstractContextManager[Runtime]:
    """Return the runtime that judges a format, to be entered with ``with``.

    Args:
        written: the format: ``gguf`` goes to llama.cpp, ``safetensors`` to transformers in float32, ``gptq`` and
            ``awq`` there by way of GPTQModel, ``compressed-tensors`` by way of the library of that name.
        model: the folder; for ``gguf`` it holds one ``.gguf`` file or a set of them, or is the first file.
        context: threads and device.
        window_tokens: how many tokens are read at once, at most.
    """
    if written == "gguf":
        from engines.runtimes.llama_cpp import LlamaCppRuntime

        return LlamaCppRuntime(gguf_in(model), context, window_tokens)
    if written in ("gptq", "awq"):
        from engines.runtimes.packed import PackedRuntime

        return PackedRuntime(model, written, context, window_tokens)
    if written == "compressed-tensors":
        from engines.runtimes.compressed_tensors import CompressedTensorsRuntime

        return CompressedTensorsRuntime(model, context, window_tokens)
    from engines.runtimes.huggingface import HuggingFaceRuntime

    return HuggingFaceRuntime(model, context, window_tokens)
