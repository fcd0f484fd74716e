"""GGUF files, in llama.cpp through its C interface, with the settings of its own llama-perplexity."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from core.errors import DoesNotFit, ToolFailed
from engines.context import EngineContext
from engines.domains import Item
from engines.llama_cpp import detokenize, load_model
from engines.runtimes import IsOver, never, readable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LlamaCppRuntime:
    """A GGUF file, loaded for as long as the ``with`` block lasts."""

    def __init__(self, path: Path, context: EngineContext, window_tokens: int) -> None:
        self._path = path
        self._window_tokens = window_tokens
        self._threads = context.threads
        self._resources = contextlib.ExitStack()
        self._model: Any = None
        self._context: Any = None
        self._batch: Any = None
        self._vocabulary_size = 0

    def __enter__(self) -> Self:
        """Load the model.

        Raises:
            ModelUnsupported: llama.cpp refuses the file.
            DoesNotFit: memory ran out.
        """
        import llama_cpp

        with contextlib.ExitStack() as stack:
            model = self._model = stack.enter_context(load_model(self._path))
            self._vocabulary_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
            self._window_tokens = readable(self._window_tokens, llama_cpp.llama_model_n_ctx_train(model))
            params = llama_cpp.llama_context_default_params()
            params.n_ctx = params.n_batch = params.n_ubatch = self._window_tokens
            params.n_threads = params.n_threads_batch = self._threads
            self._context = llama_cpp.llama_init_from_model(model, params)
            if self._context is None:
                raise DoesNotFit("llama.cpp could not make room for a window of text. Use a machine with more memory.")
            stack.callback(llama_cpp.llama_free, self._context)
            self._batch = llama_cpp.llama_batch_init(self._window_tokens, 0, 1)
            stack.callback(llama_cpp.llama_batch_free, self._batch)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the model."""
        self._resources.close()
        self._model = self._context = self._batch = None

    @property
    def window_tokens(self) -> int:
        """How many tokens are read at once, at most; see ``Runtime.window_tokens``."""
        return self._window_tokens

    def logits(self, item: Item) -> "NDArray[np.float32]":
        """Return the logits that predict the scored tokens; see ``Runtime.logits``."""
        import llama_cpp
        import numpy as np

        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        # The logits at one position predict the token at the next.
        self._decode(item.ids, 0, wanted=range(item.first - 1, len(item.ids) - 1))
        rows = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(rows, shape=(len(item.targets), self._vocabulary_size))

    def continuation(self, prompt: Sequence[int], count: int, is_over: IsOver = never) -> list[int]:
        """Return the likeliest next tokens, one after the other; see ``Runtime.continuation``."""
        import llama_cpp
        import numpy as np

        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        given, chosen = list(prompt), list[int]()
        while len(chosen) < count and not (chosen and is_over(chosen)):
            begin = len(prompt) + len(chosen) - len(given)
            self._decode(given, begin, wanted=range(len(given) - 1, len(given)))
            row = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), shape=(self._vocabulary_size,))
            given = [int(row.argmax())]
            chosen += given
        return chosen

    def text(self, ids: Sequence[int]) -> str:
        """Return what ids say; see ``Runtime.text``."""
        return detokenize(self._model, ids)

    def _decode(self, tokens: Sequence[int], begin: int, wanted: range) -> None:
        """Run the model over ``tokens``, the first at position ``begin``; logits are kept at the ``wanted`` indexes."""
        import llama_cpp

        batch = self._batch
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = begin + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = index in wanted
        status = llama_cpp.llama_decode(self._context, batch)
        if status != 0:
            raise ToolFailed(f"llama.cpp could not process a window of text: llama_decode returned {status}.")
