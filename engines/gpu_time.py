"""How long engines take on an NVIDIA H100, as ``bench/results/gpu.md`` found it. Another GPU is faster or slower."""

from collections.abc import Sequence
from typing import Literal

from engines.model_facts import NARROW_MATRICES, ModelFacts

# What goes once through all layers: GPTQ and AWQ by GPTQModel, and the passes of llm-compressor, where ``columns`` and
# ``pairs`` are how it smooths.
Pass = Literal["gptqmodel-gptq", "gptqmodel-awq", "gptq", "columns", "pairs", "nearest"]

START = 8.0  # libraries are loaded
WARM_UP = 8.0  # the model's first part is read, and the first layer takes longer
WRITTEN_BYTES = 1e9  # a second

# Of GPTQ: two thirds of a layer's time go into the sums of its Hessians, the rest into their inverses.
SUMMED = 33e12  # operations a second
INVERTED = 1.58e-13  # seconds for a column, cubed
BY_LLM_COMPRESSOR = 1.49  # of GPTQModel's time

# Of what sends samples through a layer, perhaps many times: seconds for a token and a weight.
TRIED = {"gptqmodel-awq": 6.47e-13, "pairs": 2.74e-13, "columns": 5.2e-14}
ROUNDED_BYTES = 2.7e9  # of weights a second, where no text is looked at


def seconds(facts: ModelFacts, passes: Sequence[Pass], tokens: int, result_bytes: int) -> float | None:
    """Return how long a method takes, from the start of its process; None of experts, which were not measured.

    Args:
        facts: of the model.
        passes: what goes through all layers.
        tokens: of all samples; 0 where no text is looked at.
        result_bytes: what is written at the end.
    """
    if facts.expert_count:
        return None
    layers = facts.layer_count * sum(layer_seconds(one, facts, tokens) for one in passes)
    return START + (WARM_UP if tokens else 0) + layers + result_bytes / WRITTEN_BYTES


def layer_seconds(kind: Pass, facts: ModelFacts, tokens: int) -> float:
    """Return how long a pass takes of a layer."""
    if kind == "nearest":
        return facts.layer_elements * facts.element_bytes / ROUNDED_BYTES
    if kind in TRIED:
        return TRIED[kind] * tokens * facts.layer_elements
    narrow, wide = facts.hidden_size, facts.longest_row
    summed = 2 * tokens * facts.hessian_elements / SUMMED
    inverted = INVERTED * (NARROW_MATRICES * narrow**3 + wide**3)
    return (summed + inverted) * (BY_LLM_COMPRESSOR if kind == "gptq" else 1)
