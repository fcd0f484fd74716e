"""GGUF files in llama.cpp, through its C interface, with the settings of its own llama-bench."""

import contextlib
import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from core.errors import DoesNotFit, ToolFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH_TOKENS = 2048  # llama-bench's -b and -ub: what is handed over at once, and what is computed at once
COMPUTED_TOKENS = 512
CELLS = 256  # llama.cpp rounds the room of a sequence up to a multiple


class LlamaCppGenerator:
    """A model that ``engines.llama_cpp.load_model`` has loaded.

    Args:
        model: the ``llama_model`` pointer.
        threads: CPU threads to use.
    """

    def __init__(self, model: Any, threads: int) -> None:
        import llama_cpp

        self._model = model
        self._threads = threads
        self._vocabulary_size = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model)))
        self._context: Any = None
        self._length = 0

    @property
    def vocabulary_size(self) -> int:
        """How many tokens it knows."""
        return self._vocabulary_size

    @contextlib.contextmanager
    def make_room(self, sequences: int, positions: int) -> Iterator[None]:
        """Keep room for keys and values; see ``Generator.make_room``."""
        import llama_cpp

        params = llama_cpp.llama_context_default_params()
        params.n_ctx = sequences * -(-positions // CELLS) * CELLS
        params.n_seq_max = params.n_outputs_max = sequences
        params.n_batch, params.n_ubatch = BATCH_TOKENS, COMPUTED_TOKENS
        params.n_threads = params.n_threads_batch = self._threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if self._context is None:
            raise DoesNotFit(
                f"llama.cpp could not make room for {sequences} times {positions} tokens. Use a machine with more "
                "memory, a shorter context, or a smaller batch."
            )
        try:
            yield
        finally:
            llama_cpp.llama_free(self._context)
            self._context = None

    def read(self, prompts: "NDArray[np.int32]") -> "NDArray[np.int32]":
        """Read prompts from the beginning; see ``Generator.read``."""
        import llama_cpp
        import numpy as np

        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        sequences, self._length = prompts.shape
        wanted = np.zeros(prompts.shape, np.int8)
        wanted[:, -1] = 1
        positions = np.tile(np.arange(self._length, dtype=np.int32), sequences)
        numbers = np.repeat(np.arange(sequences, dtype=np.int32), self._length)
        return self._decode(np.ascontiguousarray(prompts, np.int32).ravel(), positions, numbers, wanted.ravel())

    def go_on(self, tokens: "NDArray[np.int32]") -> "NDArray[np.int32]":
        """Add a token to each sequence; see ``Generator.go_on``."""
        import numpy as np

        sequences = len(tokens)
        positions = np.full(sequences, self._length, np.int32)
        self._length += 1
        return self._decode(tokens, positions, np.arange(sequences, dtype=np.int32), np.ones(sequences, np.int8))

    def _decode(
        self,
        tokens: "NDArray[np.int32]",
        positions: "NDArray[np.int32]",
        sequences: "NDArray[np.int32]",
        wanted: "NDArray[np.int8]",
    ) -> "NDArray[np.int32]":
        """Run the model over tokens, one after the other, and return the likeliest token after each wanted one."""
        import llama_cpp
        import numpy as np

        counts = np.ones(len(tokens), np.int32)  # of the sequences that a token belongs to
        lists = (sequences.ctypes.data + sequences.itemsize * np.arange(len(tokens))).astype(np.uintp)
        found = []
        for begin in range(0, len(tokens), BATCH_TOKENS):
            part = slice(begin, begin + BATCH_TOKENS)
            batch = llama_cpp.llama_batch(
                n_tokens=len(tokens[part]),
                token=_at(tokens[part], ctypes.c_int32),
                pos=_at(positions[part], ctypes.c_int32),
                n_seq_id=_at(counts[part], ctypes.c_int32),
                seq_id=_at(lists[part], ctypes.POINTER(ctypes.c_int32)),
                logits=_at(wanted[part], ctypes.c_int8),
            )
            status = llama_cpp.llama_decode(self._context, batch)
            if status != 0:
                raise ToolFailed(f"llama.cpp could not process {len(tokens)} tokens: llama_decode returned {status}.")
            llama_cpp.llama_synchronize(self._context)
            if rows := int(wanted[part].sum()):
                logits = llama_cpp.llama_get_logits(self._context)
                found.append(np.ctypeslib.as_array(logits, shape=(rows, self._vocabulary_size)).argmax(axis=1))
        likeliest: NDArray[np.int32] = np.concatenate(found).astype(np.int32)
        return likeliest


def _at(array: Any, kind: Any) -> Any:
    """Return a pointer to the first of an array's elements, which lie one after the other."""
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
