"""llama.cpp's types as data: what each takes a weight, on which rows it works, what it falls back to.

A recipe names a file type (``Q4_K_M``), which is a mixture of tensor types (``q4_K``, ``q6_K``), spelled as llama.cpp
spells each. Followed: ``llama-quant.cpp`` of the version in ``engines/llama_cpp.py``.

Left out are types for models that were trained for them (TQ1_0, TQ2_0, Q1_0, Q2_0: any other model answers nonsense,
with a perplexity of thousands), and MXFP4_MOE, which is Q8_0 with experts in ``mxfp4`` and can be said by a pattern.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from engines.tensor_patterns import choose

GgufType = Literal[
    "IQ1_S",
    "IQ1_M",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ2_S",
    "IQ2_M",
    "IQ3_XXS",
    "IQ3_XS",
    "IQ3_S",
    "IQ3_M",
    "IQ4_XS",
    "IQ4_NL",
    "Q2_K_S",
    "Q2_K",
    "Q3_K_S",
    "Q3_K_M",
    "Q3_K_L",
    "Q4_0",
    "Q4_1",
    "Q4_K_S",
    "Q4_K_M",
    "Q5_0",
    "Q5_1",
    "Q5_K_S",
    "Q5_K_M",
    "Q6_K",
    "Q8_0",
    "F16",
    "BF16",
]
# What an embedding or an output head may be stored in: no type that needs an importance matrix, which has no entry
# for either.
EdgeType = Literal[
    "q2_K",
    "q3_K",
    "q4_0",
    "q4_1",
    "q4_K",
    "q5_0",
    "q5_1",
    "q5_K",
    "q6_K",
    "q8_0",
    "iq3_s",
    "iq4_nl",
    "iq4_xs",
    "mxfp4",
    "bf16",
    "f16",
]
TensorType = EdgeType | Literal["iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs"]

SIXTEEN_BIT_TYPES = ("F16", "BF16")
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
OUTPUT = "output.weight"


@dataclass(frozen=True)
class Storage:
    """How a tensor type stores.

    Attributes:
        bits: of a weight, scales included.
        block: weights that are stored together; it must divide the rows.
        fallback: what llama.cpp stores rows in that it does not divide; None where ``f16``.
    """

    bits: float
    block: int = 256
    fallback: TensorType | None = None


STORAGE: Mapping[TensorType, Storage] = {
    "iq1_s": Storage(1.5625, fallback="iq4_nl"),
    "iq1_m": Storage(1.75, fallback="iq4_nl"),
    "iq2_xxs": Storage(2.0625, fallback="iq4_nl"),
    "iq2_xs": Storage(2.3125, fallback="iq4_nl"),
    "iq2_s": Storage(2.5625, fallback="iq4_nl"),
    "iq3_xxs": Storage(3.0625, fallback="iq4_nl"),
    "iq3_s": Storage(3.4375, fallback="iq4_nl"),
    "iq4_xs": Storage(4.25, fallback="iq4_nl"),
    "q2_K": Storage(2.625, fallback="q4_0"),
    "q3_K": Storage(3.4375, fallback="q4_0"),
    "q4_K": Storage(4.5, fallback="q5_0"),
    "q5_K": Storage(5.5, fallback="q5_1"),
    "q6_K": Storage(6.5625, fallback="q8_0"),
    "iq4_nl": Storage(4.5, 32),
    "mxfp4": Storage(4.25, 32),
    "q4_0": Storage(4.5, 32),
    "q4_1": Storage(5.0, 32),
    "q5_0": Storage(5.5, 32),
    "q5_1": Storage(6.0, 32),
    "q8_0": Storage(8.5, 32),
    "f16": Storage(16.0, 1),
    "bf16": Storage(16.0, 1),
}

# What most matrices of each file type become.
MAIN: Mapping[GgufType, TensorType] = {
    "IQ1_S": "iq1_s",
    "IQ1_M": "iq1_m",
    "IQ2_XXS": "iq2_xxs",
    "IQ2_XS": "iq2_xs",
    "IQ2_S": "iq2_xs",
    "IQ2_M": "iq2_s",
    "IQ3_XXS": "iq3_xxs",
    "IQ3_XS": "iq3_s",
    "IQ3_S": "iq3_s",
    "IQ3_M": "iq3_s",
    "IQ4_XS": "iq4_xs",
    "IQ4_NL": "iq4_nl",
    "Q2_K_S": "q2_K",
    "Q2_K": "q2_K",
    "Q3_K_S": "q3_K",
    "Q3_K_M": "q3_K",
    "Q3_K_L": "q3_K",
    "Q4_0": "q4_0",
    "Q4_1": "q4_1",
    "Q4_K_S": "q4_K",
    "Q4_K_M": "q4_K",
    "Q5_0": "q5_0",
    "Q5_1": "q5_1",
    "Q5_K_S": "q5_K",
    "Q5_K_M": "q5_K",
    "Q6_K": "q6_K",
    "Q8_0": "q8_0",
    "F16": "f16",
    "BF16": "bf16",
}

# Weights that two cores of a server quantize to each type, as ``bench/results/quantize_speed.md`` found it.
MILLION_WEIGHTS_A_SECOND: Mapping[TensorType, float] = {
    "iq1_s": 4.9,
    "iq1_m": 7.6,
    "iq2_xxs": 5.3,
    "iq2_xs": 2.4,
    "iq2_s": 6.8,
    "iq3_xxs": 3.9,
    "iq3_s": 5.2,
    "iq4_xs": 7,
    "iq4_nl": 8.7,
    "q2_K": 39,
    "q3_K": 59,
    "q4_0": 170,
    "q4_1": 200,
    "q4_K": 29,
    "q5_0": 150,
    "q5_1": 190,
    "q5_K": 34,
    "q6_K": 56,
    "q8_0": 140,
    "f16": 150,
    "bf16": 180,
}

# llama-quantize refuses these without an importance matrix.
NEED_IMATRIX: frozenset[GgufType] = frozenset(
    ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S")
)
TENSORS_NEED_IMATRIX: frozenset[TensorType] = frozenset(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs"))


def stored_as(asked: TensorType, row_length: int) -> TensorType:
    """Return what llama.cpp stores a matrix in that is to have a type, by the length of its rows."""
    storage = STORAGE[asked]
    if row_length % storage.block == 0:
        return asked
    fallback = storage.fallback
    return fallback if fallback is not None and row_length % STORAGE[fallback].block == 0 else "f16"


def asked_types(
    names: Collection[str],
    patterns: Mapping[str, TensorType],
    token_embedding_type: EdgeType | None,
    output_type: EdgeType | None,
) -> dict[str, TensorType]:
    """Return the types that a recipe asks for by name; other tensors get what the file type's mixture gives them.

    Args:
        names: of all tensors that are quantized.
        patterns: types by pattern.
        token_embedding_type: of the embedding; comes before the patterns.
        output_type: of the output head, likewise; of the embedding, where it is the head, too, and nothing else asks.

    Raises:
        InvalidRequest: a pattern is found in no name, or two disagree.
    """
    asked = choose(patterns, names, param="recipe.tensor_types")
    embeddings = [name for name in EMBEDDINGS if name in names]
    if token_embedding_type is not None:
        by_pattern = {name for name in asked if name != EMBEDDINGS[0]}  # the second one's pattern comes first
        asked.update({name: token_embedding_type for name in embeddings if name not in by_pattern})
    if output_type is not None:
        if OUTPUT in names:
            asked[OUTPUT] = output_type
        else:
            asked = {**dict.fromkeys(embeddings, output_type), **asked}
    return asked
