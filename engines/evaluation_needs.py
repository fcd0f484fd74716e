"""What judging a model will need, told from its size alone."""

from engines.domains import ITEM_TOKENS, SCORED_TOKENS, WINDOW_TOKENS
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from engines.runtimes import Judged
from engines.score_files import BYTES_EACH

PROCESS_BYTES = 1536 * 2**20  # torch with CUDA, transformers, a large tokenizer; or with tasks the harness


def forecast_reference(facts: ModelFacts, logit_bytes: int = 0, window_tokens: int = WINDOW_TOKENS) -> Forecast:
    """Return what judging the source in float32 will need.

    Args:
        facts: of the source.
        logit_bytes: what will be kept of its answers.
        window_tokens: how many tokens are read at once.
    """
    weights = 4 * facts.parameter_count + facts.weight_bytes // max(facts.layer_count, 1)
    return Forecast(
        memory_bytes=host_bytes(facts, window_tokens),
        vram_bytes=weights + _window_bytes(facts, window_tokens),
        scratch_bytes=2**20 + logit_bytes,
    )


def host_bytes(facts: ModelFacts, window_tokens: int) -> int:
    """Return the room in main memory beside a model: a tensor in float32 on its way, and logits that are looked at.

    Its files are mapped, and what of them was read is given back when somebody needs the room.

    Args:
        facts: of the source.
        window_tokens: of how many tokens there are logits at once, with what is kept of them.
    """
    logits = (4 + 2 * BYTES_EACH) * window_tokens * facts.vocabulary_size
    return PROCESS_BYTES + 4 * facts.largest_tensor_elements + logits


def forecast_logits(facts: ModelFacts, windows: int, others: int, limit_bytes: int) -> int:
    """Return how many bytes of log-probabilities are kept.

    Args:
        facts: of the source.
        windows: how many windows of texts are scored.
        others: how many other items, of which all but the first token may be.
        limit_bytes: how much is kept at most.
    """
    tokens = windows * SCORED_TOKENS + others * (ITEM_TOKENS - 1)
    return min(limit_bytes, tokens * facts.vocabulary_size * BYTES_EACH)


def forecast_result(
    facts: ModelFacts, written: Judged, result_bytes: int, window_tokens: int = WINDOW_TOKENS
) -> Forecast:
    """Return what running a result will need.

    Args:
        facts: of the source.
        written: the result's format; what transformers runs is unpacked to float32.
        result_bytes: size of the result.
        window_tokens: how many tokens are read at once.
    """
    if written != "gguf":
        return forecast_reference(facts, window_tokens=window_tokens)
    memory = PROCESS_BYTES + result_bytes + _window_bytes(facts, window_tokens)
    return Forecast(memory_bytes=memory, scratch_bytes=2**20)


def _window_bytes(facts: ModelFacts, window_tokens: int) -> int:
    """Return the room that one window takes: logits a few times over, activations, keys and values."""
    return 4 * window_tokens * (4 * facts.vocabulary_size + facts.hidden_size * (16 + 2 * facts.layer_count))
