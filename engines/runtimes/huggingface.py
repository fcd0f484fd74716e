"""The reference: transformers in float32."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from core.errors import ModelUnsupported
from engines.context import EngineContext
from engines.domains import Item
from engines.loading import load_model
from engines.memory_errors import told_as_not_fitting
from engines.runtimes import IsOver, never, readable
from engines.source import require_no_code
from engines.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHAT = "the model ran in float32"


class HuggingFaceRuntime:
    """A model folder, loaded in float32 on the context's device for as long as the ``with`` block lasts."""

    def __init__(self, folder: Path, context: EngineContext, window_tokens: int) -> None:
        self._folder = folder
        self._context = context
        self._window_tokens = window_tokens
        self._model: Any = None
        self._tokenizer: Any = None  # once it is asked for
        self._threads_before = 0
        self._can_leave_out = False

    def __enter__(self) -> Self:
        """Load the model.

        Raises:
            ModelUnsupported: transformers cannot load it without remote code.
            SourceInvalid: the weights do not fill the model, or the folder holds code.
            DoesNotFit: memory ran out.
        """
        import torch

        require_no_code(self._folder)
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self._context.threads)
        with told_as_not_fitting(WHAT, self._context.device):
            self._model = self.load(self._folder, self._context.device).eval()
        self._can_leave_out = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        return self

    def load(self, folder: Path, device: str) -> Any:
        """Return the model in ``folder`` in float32, of which no more than a tensor is copied on its way to a device.

        See ``__enter__`` for what is raised.
        """
        return load_model(folder, device_map=device)

    @property
    def window_tokens(self) -> int:
        """How many tokens are read at once, at most; see ``Runtime.window_tokens``."""
        learned: int | None = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return readable(self._window_tokens, learned)

    @property
    def model(self) -> Any:
        """The model as transformers has it, on the context's device."""
        return self._model

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the model's memory."""
        import torch

        self._model = None
        torch.set_num_threads(self._threads_before)

    def logits(self, item: Item) -> "NDArray[np.float32]":
        """Return the logits that predict the scored tokens; see ``Runtime.logits``."""
        import torch

        wanted = len(item.targets)
        with torch.inference_mode(), told_as_not_fitting(WHAT, self._context.device):
            ids = torch.tensor([list(item.ids)], device=self._context.device)
            try:
                rows = self._model(input_ids=ids, use_cache=False, **self._keep(wanted + 1)).logits[0]
            except IndexError as error:
                raise ModelUnsupported(
                    f"The model cannot read {len(item.ids)} tokens at once, or has no embedding for one of them."
                ) from error
            # The last row predicts what comes after the item.
            result: NDArray[np.float32] = rows[-wanted - 1 : -1].float().cpu().numpy()
            return result

    def _keep(self, rows: int) -> dict[str, int]:
        """Return how to have logits of the last rows alone, where the model can leave the others out.

        Those of a whole window of a large vocabulary are hundreds of megabytes.
        """
        return {"logits_to_keep": rows} if self._can_leave_out else {}

    def continuation(self, prompt: Sequence[int], count: int, is_over: IsOver = never) -> list[int]:
        """Return the likeliest next tokens, one after the other; see ``Runtime.continuation``."""
        import torch

        ids, chosen = list(prompt), list[int]()
        past = None
        with torch.inference_mode(), told_as_not_fitting(WHAT, self._context.device):
            while len(chosen) < count and not (chosen and is_over(chosen)):
                given = torch.tensor([ids], device=self._context.device)
                answer = self._model(input_ids=given, past_key_values=past, use_cache=True, **self._keep(1))
                past, ids = answer.past_key_values, [int(answer.logits[0, -1].argmax())]
                chosen += ids
        return chosen

    def text(self, ids: Sequence[int]) -> str:
        """Return what ids say; see ``Runtime.text``."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._folder)
        said: str = self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return said
