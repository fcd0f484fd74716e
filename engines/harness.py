"""A model as EleutherAI's lm-evaluation-harness knows one: it answers the harness's requests through a ``Runtime``.

Imported where tasks are judged, and nowhere else: the harness brings a good deal with it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from core.errors import ModelUnsupported
from engines.datasets import Message
from engines.domains import answered
from engines.runtimes import Runtime
from engines.scoring import score
from engines.tasks import SKIPS_BLANK_LINES
from engines.tokenizer import encode, encode_written, leading_bos, write_conversation

PARAM = "evaluation.tasks"
logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of its own command's options


class RuntimeModel(LM):  # type: ignore[misc]  # the package has no types
    """A loaded model.

    Args:
        runtime: the model, entered.
        tokenizer: the source's.
        ends: ids that end an answer.
        answer: given a request, by its kind and its arguments, and a function that has the model answer, returns the
            answer; one that is known already need not be asked for again.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: Any,
        ends: frozenset[int],
        answer: Callable[[str, Sequence[Any], Callable[[], Any]], Any],
    ) -> None:
        super().__init__()
        self._runtime = runtime
        self._tokenizer = tokenizer
        self._ends = ends
        self._answer = answer
        self._begin = [] if (bos := leading_bos(tokenizer)) is None else [bos]
        self._is_conversation = False

    @property
    def tokenizer_name(self) -> str:
        """Whose chat template is used; the harness asks for it and does nothing with it here."""
        return str(self._tokenizer.name_or_path)

    def apply_chat_template(self, chat_history: list[Message], add_generation_prompt: bool = True) -> str:
        """Return a conversation as the model's template writes it."""
        self._is_conversation = True
        return write_conversation(self._tokenizer, chat_history, PARAM, to_be_answered=add_generation_prompt)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Return how likely each continuation is, in nats, and whether the model would have chosen it."""
        return [
            tuple(self._answer("loglikelihood", one.args, partial(self._likelihood, *one.args))) for one in requests
        ]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Return how the model goes on from each prompt, up to what ends an answer."""
        return [self._answer("generate_until", one.args, partial(self._generated, *one.args)) for one in requests]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refuse: perplexity is measured on domains."""
        raise NotImplementedError

    def _likelihood(self, prompt: str, answer: str) -> tuple[float, bool]:
        alone, whole = encode(self._tokenizer, prompt), encode(self._tokenizer, prompt + answer)
        item = answered(self._begin, alone, whole, self._runtime.window_tokens)
        if item is None:
            raise ModelUnsupported(f"This tokenizer makes no tokens of the choice {answer[:80]!r}.", param=PARAM)
        found = score(self._runtime.logits(item), item.targets)
        return -float(found.nll.sum()), bool((found.likeliest == list(item.targets)).all())

    def _generated(self, prompt: str, wanted: Mapping[str, Any]) -> str:
        ids = (
            encode_written(self._tokenizer, prompt)
            if self._is_conversation
            else [*self._begin, *encode(self._tokenizer, prompt)]
        )
        room = wanted["max_gen_toks"]
        kept = max(1, self._runtime.window_tokens - room - len(self._begin))
        if len(ids) > kept + len(self._begin):
            ids = [*self._begin, *ids[-kept:]]
        stops: Sequence[str] = wanted["until"]
        skipped = "\n" if wanted.get(SKIPS_BLANK_LINES) else ""

        def said(chosen: Sequence[int]) -> str:
            kept = [one for one in chosen if one not in self._ends]
            text: str = self._tokenizer.decode(kept, clean_up_tokenization_spaces=False)
            return text.lstrip(skipped)

        def is_over(chosen: Sequence[int]) -> bool:
            return chosen[-1] in self._ends or any(stop in said(chosen) for stop in stops)

        text = said(self._runtime.continuation(ids, room, is_over))
        return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]
