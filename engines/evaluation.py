"""The one evaluator: how well a model predicts text, the same for every format.

The source tokenizer's ids, cut into llama-perplexity's windows to the token, are fed to each runtime through one port;
what is compared is the probability of the same tokens. Perplexity is exp of the mean negative log-likelihood, in nats.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from core.errors import InvalidRequest, ModelUnsupported
from engines.context import Progress
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from engines.runtimes import CONTEXT_TOKENS, SCORED_TOKENS, WINDOW_TOKENS, Judged, Runtime
from engines.tokenizer import encode, leading_bos, load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS = Path(__file__).parent / "texts"
TEXT_SUFFIX = "_eval.txt"

MEAN_MAX = 100.0  # nats; a model that knows nothing of a million tokens has 14
PROCESS_BYTES = 1536 * 2**20  # torch, transformers and a large tokenizer


class DomainScore(TypedDict):
    """How a model does on one text.

    Attributes:
        perplexity: exp of the mean over all scored tokens.
        windows: how many windows were scored; fewer than asked for where the text is shorter.
        tokens: how many tokens were scored.
        negative_log_likelihood: for each window the sum over its scored tokens, in nats.
    """

    perplexity: float
    windows: int
    tokens: int
    negative_log_likelihood: list[float]


def domains() -> list[str]:
    """Return the names of the texts that there are."""
    return sorted(path.name.removesuffix(TEXT_SUFFIX) for path in TEXTS.glob(f"*{TEXT_SUFFIX}"))


@functools.cache
def text_digest(domain: str) -> str:
    """Return the SHA-256 of a domain's text: another text gives other scores."""
    return hashlib.sha256(_text_path(domain).read_bytes()).hexdigest()


def _text_path(domain: str) -> Path:
    if domain not in domains():
        known = ", ".join(domains())
        raise InvalidRequest(f"There is no text {domain[:80]!r}. Known: {known}.", param="evaluation.domains")
    return TEXTS / f"{domain}{TEXT_SUFFIX}"


def forecast_reference(facts: ModelFacts) -> Forecast:
    """Return what judging the source in float32 will need."""
    weights = 4 * facts.parameter_count + facts.weight_bytes // max(facts.layer_count, 1)
    return Forecast(memory_bytes=PROCESS_BYTES, vram_bytes=weights + _window_bytes(facts), scratch_bytes=2**20)


def forecast_result(facts: ModelFacts, written: Judged, result_bytes: int) -> Forecast:
    """Return what running a result will need.

    Args:
        facts: of the source.
        written: the result's format; what transformers runs is unpacked to float32.
        result_bytes: size of the result.
    """
    if written != "gguf":
        return forecast_reference(facts)
    return Forecast(memory_bytes=PROCESS_BYTES + result_bytes + _window_bytes(facts), scratch_bytes=2**20)


def _window_bytes(facts: ModelFacts) -> int:
    """Return the room that one window takes: logits a few times over, activations, keys and values."""
    return 4 * WINDOW_TOKENS * (4 * facts.vocabulary_size + facts.hidden_size * (16 + 2 * facts.layer_count))


def read_windows(tokenizer_folder: Path, domain: str, windows: int) -> list[list[int]]:
    """Return the first windows of a text, as llama-perplexity cuts them.

    The text is tokenized whole, with the token that begins a text only where the tokenizer adds one; windows do not
    overlap and the last, partial one is dropped. Where the tokenizer adds that token, it also takes the place of each
    window's first.

    Args:
        tokenizer_folder: the source, for its tokenizer.
        domain: one of ``domains()``.
        windows: at most this many.

    Raises:
        InvalidRequest: there is no such text.
        ModelUnsupported: the tokenizer makes less than one window of it.
    """
    text = _text_path(domain).read_text(encoding="utf-8")
    return cut_windows(load_tokenizer(tokenizer_folder), text, windows)


def cut_windows(tokenizer: Any, text: str, windows: int) -> list[list[int]]:
    """Return the first windows of ``text``; see ``read_windows``."""
    bos = leading_bos(tokenizer)
    ids = [*([] if bos is None else [bos]), *encode(tokenizer, text)]
    count = min(windows, len(ids) // WINDOW_TOKENS)
    if count == 0:
        raise ModelUnsupported(
            f"The text has {len(ids)} tokens for this tokenizer, and a window needs {WINDOW_TOKENS}."
        )
    cut = [ids[index * WINDOW_TOKENS : (index + 1) * WINDOW_TOKENS] for index in range(count)]
    if bos is not None:
        for window in cut:
            window[0] = bos
    return cut


def evaluate(
    runtime: Runtime,
    tokenizer_folder: Path,
    domains: Sequence[str],
    windows: int,
    report: Callable[[Progress], None],
) -> Mapping[str, DomainScore]:
    """Score a model on each text.

    Args:
        runtime: the model, entered.
        tokenizer_folder: the source, for its tokenizer.
        domains: names of texts.
        windows: how many windows of each; a shorter text gives what it has, and the score says how many.
        report: called after each window.

    Returns:
        a score for each domain.

    Raises:
        ModelUnsupported: the model's numbers are not finite, or a token has no logit.
        DoesNotFit: memory ran out.
    """
    cut = {domain: read_windows(tokenizer_folder, domain, windows) for domain in domains}
    total = sum(len(of_domain) for of_domain in cut.values())
    done = 0
    scores: dict[str, DomainScore] = {}
    for domain, of_domain in cut.items():
        sums = []
        for window in of_domain:
            sums.append(_score(runtime.logits(window), window[CONTEXT_TOKENS:]))
            done += 1
            report(Progress(done, total, "windows", domain))
        tokens = SCORED_TOKENS * len(of_domain)
        scores[domain] = DomainScore(
            perplexity=math.exp(_bounded(math.fsum(sums) / tokens)),
            windows=len(of_domain),
            tokens=tokens,
            negative_log_likelihood=sums,
        )
    return scores


def _score(logits: "NDArray[np.float32]", targets: Sequence[int]) -> float:
    """Return the summed negative log-likelihood of ``targets`` under a float32 log-softmax of ``logits``."""
    import numpy as np

    if max(targets) >= logits.shape[1]:
        raise ModelUnsupported(f"The tokenizer gives id {max(targets)}, and the model knows {logits.shape[1]} tokens.")
    shifted = logits - logits.max(axis=1, keepdims=True)
    # The sum over a large vocabulary loses digits in float32, so it alone is made in float64.
    normalizer = np.log(np.exp(shifted).sum(axis=1, dtype=np.float64))
    score = float((normalizer - shifted[np.arange(len(targets)), list(targets)]).sum())
    if not math.isfinite(score):
        raise ModelUnsupported("The model's logits are not finite: its weights hold NaN, or overflow in this format.")
    return score


def _bounded(mean: float) -> float:
    if mean > MEAN_MAX:
        raise ModelUnsupported("The model gives the text no probability at all: its weights are damaged.")
    return mean
