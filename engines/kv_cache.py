"""How much memory keys and values take while a model reads and writes: what serving needs beside the weights."""

import re
from collections.abc import Sequence
from typing import TypedDict

from engines.gguf_size import NOT_OF_TEXT
from engines.model_facts import ModelFacts

SERVED_BYTES = 2  # of an element: llama.cpp and vLLM keep float16 or bfloat16 unless they are told otherwise
USUAL_CONTEXTS = (4096, 32768)
# Models with latent attention keep what keys and values are made of, in place of them.
_LATENT = re.compile(r"\.kv_a_proj_with_mqa\.weight$")
_KEYS_AND_VALUES = re.compile(r"\.[kv]_proj\.weight$")


class ServingMemory(TypedDict):
    """What serving a result takes at least, beside what the server itself needs.

    Attributes:
        context_tokens: how long each sequence may become.
        batch_size: how many sequences are served at once.
        weight_bytes: of the result's files.
        kv_cache_bytes: of keys and values in float16, of all layers and positions.
    """

    context_tokens: int
    batch_size: int
    weight_bytes: int
    kv_cache_bytes: int


def kv_cache_bytes(facts: ModelFacts, context_tokens: int, batch_size: int, element_bytes: int = SERVED_BYTES) -> int:
    """Return how large the keys and values of some sequences are; 0 where the model does not say.

    Every layer counts with every position: a server that drops what lies outside of a sliding window needs less.

    Args:
        facts: of the model.
        context_tokens: length of each sequence.
        batch_size: how many sequences there are.
        element_bytes: of a number; ``SERVED_BYTES`` as servers keep it.
    """
    return _elements_a_token(facts) * context_tokens * batch_size * element_bytes


def serving_memory(facts: ModelFacts, result_bytes: int) -> list[ServingMemory]:
    """Return what serving one sequence takes at usual lengths, and at the longest that the model can read.

    Args:
        facts: of the source.
        result_bytes: size of the result's files.

    Returns:
        the shortest first; empty where the model does not say how large keys and values are.
    """
    longest = facts.position_count
    lengths = {length for length in USUAL_CONTEXTS if not longest or length <= longest} | ({longest} - {0})
    found = (
        ServingMemory(
            context_tokens=length,
            batch_size=1,
            weight_bytes=result_bytes,
            kv_cache_bytes=kv_cache_bytes(facts, length, 1),
        )
        for length in sorted(lengths)
    )
    return [one for one in found if one["kv_cache_bytes"]]


def _elements_a_token(facts: ModelFacts) -> int:
    """Return how many numbers all layers keep of a token: by the tensors that make them, else by the heads."""
    return (
        _outputs(facts, _LATENT)
        or _outputs(facts, _KEYS_AND_VALUES)
        or 2 * facts.layer_count * (facts.kv_head_count or facts.head_count) * _head_size(facts)
    )


def _outputs(facts: ModelFacts, names: re.Pattern[str]) -> int:
    """Return how many numbers come out of all matrices of such names, which have a row for each."""
    groups: Sequence[tuple[str, Sequence[int], int]] = [(one.name, one.shape, one.count) for one in facts.tensors]
    return sum(
        shape[0] * count
        for name, shape, count in groups
        if len(shape) > 1 and names.search(name) and not NOT_OF_TEXT.search(name)
    )


def _head_size(facts: ModelFacts) -> int:
    return facts.hidden_size // facts.head_count if facts.head_count else 0
