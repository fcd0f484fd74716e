"""What transformers runs: the loop of its ``generate`` with the likeliest token each time, and keys and values kept."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from core.errors import ModelUnsupported
from engines.memory_errors import told_as_not_fitting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHAT = "the model was benchmarked"


class HuggingFaceGenerator:
    """A model that transformers has loaded.

    Args:
        model: the model, on the device.
        device: where it computes, as torch names it.
    """

    def __init__(self, model: Any, device: str) -> None:
        self._model = model
        self._device = device
        self._past: Any = None
        # Logits of a long prompt of a large vocabulary are gigabytes; most models can leave all but the last out.
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._keep = {"logits_to_keep": 1} if keeps else {}

    @property
    def vocabulary_size(self) -> int:
        """How many tokens it knows."""
        return int(self._model.get_input_embeddings().num_embeddings)

    @contextlib.contextmanager
    def make_room(self, sequences: int, positions: int) -> Iterator[None]:
        """Let go at the end of keys and values, whose room grows as they come; see ``Generator.make_room``."""
        try:
            yield
        finally:
            self._past = None

    def read(self, prompts: "NDArray[np.int32]") -> "NDArray[np.int32]":
        """Read prompts from the beginning; see ``Generator.read``."""
        self._past = None
        try:
            return self._run(prompts)
        except IndexError as error:
            raise ModelUnsupported(f"The model cannot read {prompts.shape[1]} tokens at once.") from error

    def go_on(self, tokens: "NDArray[np.int32]") -> "NDArray[np.int32]":
        """Add a token to each sequence; see ``Generator.go_on``."""
        return self._run(tokens[:, None])

    def _run(self, tokens: "NDArray[np.int32]") -> "NDArray[np.int32]":
        import numpy as np
        import torch

        with torch.inference_mode(), told_as_not_fitting(WHAT, self._device):
            ids = torch.from_numpy(tokens.astype(np.int64)).to(self._device)
            answer = self._model(input_ids=ids, past_key_values=self._past, use_cache=True, **self._keep)
            self._past = answer.past_key_values
            likeliest: NDArray[np.int32] = answer.logits[:, -1].argmax(dim=-1).cpu().numpy().astype(np.int32)
            return likeliest
