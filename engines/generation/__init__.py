"""What lets a model read prompts and go on, many at once, as a server does: one small port, one file for each library.

Refuses to know: what is measured of it (``engines/benchmark.py``), and what the tokens mean.
"""

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engines.context import EngineContext
from engines.gguf_file import gguf_in
from engines.runtimes import Judged, open_runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TRANSFORMERS = ("torch", "transformers")
# What takes seconds to import, and is no part of the time that a model takes to load.
_LIBRARIES: Mapping[Judged, Sequence[str]] = {
    "gguf": ("llama_cpp",),
    "gptq": (*_TRANSFORMERS, "gptqmodel"),
    "awq": (*_TRANSFORMERS, "gptqmodel"),
    "compressed-tensors": (*_TRANSFORMERS, "compressed_tensors"),
    "safetensors": _TRANSFORMERS,
}


class Generator(Protocol):
    """A loaded model. Whatever it returns is finished: nothing of it goes on behind the caller's back."""

    @property
    def vocabulary_size(self) -> int:
        """How many tokens it knows."""
        ...

    def make_room(self, sequences: int, positions: int) -> AbstractContextManager[None]:
        """Keep room for keys and values for as long as the ``with`` block lasts; there is none outside of one.

        Args:
            sequences: how many prompts are read together.
            positions: how long each of them becomes at most, in tokens.

        Raises:
            DoesNotFit: memory ran out.
        """
        ...

    def read(self, prompts: "NDArray[np.int32]") -> "NDArray[np.int32]":
        """Forget everything, read prompts, and return the likeliest next token of each.

        Args:
            prompts: ids, of shape ``[sequences, tokens]``.

        Raises:
            DoesNotFit: memory ran out.
        """
        ...

    def go_on(self, tokens: "NDArray[np.int32]") -> "NDArray[np.int32]":
        """Add a token to each sequence, and return the likeliest one after it.

        Args:
            tokens: ids, of shape ``[sequences]``.

        Raises:
            DoesNotFit: memory ran out.
        """
        ...


def import_libraries(written: Judged) -> None:
    """Import what runs a format, so that it takes no time later."""
    for name in _LIBRARIES[written]:
        importlib.import_module(name)


@contextlib.contextmanager
def open_generator(written: Judged, model: Path, context: EngineContext) -> Iterator[Generator]:
    """Load a model, and free it at the end.

    Args:
        written: the format, which decides the library as it does for ``open_runtime``.
        model: the folder; for ``gguf`` it holds one ``.gguf`` file or a set of them, or is the first file.
        context: threads and device.

    Raises:
        ModelUnsupported: the library refuses the model.
        SourceInvalid: the weights do not fill the model, or the folder holds code.
        DoesNotFit: memory ran out.
    """
    if written == "gguf":
        from engines.generation.llama_cpp import LlamaCppGenerator
        from engines.llama_cpp import load_model

        with load_model(gguf_in(model)) as loaded:
            yield LlamaCppGenerator(loaded, context.threads)
        return
    from engines.generation.huggingface import HuggingFaceGenerator
    from engines.runtimes.huggingface import HuggingFaceRuntime

    with open_runtime(written, model, context) as runtime:
        if not isinstance(runtime, HuggingFaceRuntime):
            raise TypeError(f"{written} is not run by transformers")
        yield HuggingFaceGenerator(runtime.model, context.device)
