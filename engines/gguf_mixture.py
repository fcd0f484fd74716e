"""What llama-quantize gives each kind of matrix, by the file type's mixture.

Followed: ``llama_tensor_get_type_impl`` in ``llama-quant.cpp`` of the version in ``engines/llama_cpp.py``. The tool
itself, which ``gguf_plan`` asks, needs a converted file; this needs the shape of the model alone, and sizes are
forecast by it. A test holds the one against the other.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from engines.gguf_types import MAIN, GgufType, TensorType

LOW: Collection[GgufType] = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")
MANY_SHARE = 4  # heads that share keys and values, or experts that share attention
MIXTRAL = 8  # experts: llama.cpp has rules of its own for so many
LLAMA_70B = 80  # layers: by them llama.cpp takes a model for one of that size


@dataclass(frozen=True)
class Place:
    """Which matrix is asked for, of what model, for which file.

    Attributes:
        file_type: of the file.
        layer: which one, from 0; of an embedding or an output head 0.
        layers: of the model.
        sharing: heads of attention for each head of keys and values.
        experts: of a layer; 0 where there are none.
        has_imatrix: whether an importance matrix is used.
    """

    file_type: GgufType
    layer: int
    layers: int
    sharing: int
    experts: int
    has_imatrix: bool

    @property
    def is_first_eighth(self) -> bool:
        """Whether the layer is of the first eighth."""
        return self.layer < self.layers // 8

    @property
    def deserves_more(self) -> bool:
        """Whether the layer is of the first or the last eighth, or one of three between."""
        eighth = self.layers // 8
        return not eighth <= self.layer < 7 * self.layers // 8 or (self.layer - eighth) % 3 == 2  # noqa: PLR2004


def mixture_type(role: str, place: Place) -> TensorType:
    """Return the type that a matrix gets if its rows are long enough.

    Args:
        role: its name in GGUF without layer and suffix, such as ``attn_v`` or ``ffn_down_exps``.
        place: where it stands.
    """
    main = MAIN[place.file_type]
    kind = role.removesuffix("_exps").removesuffix("_shexp")
    if main in ("f16", "bf16") or (kind == "output" and main == "q8_0"):
        return main
    chosen = _first(_RULES.get(kind, {}).get(place.file_type, ()), place) or main
    if place.file_type in LOW:
        return _first(_LOW_OF_MIXTRAL.get(kind, ()), place) or chosen
    if kind in VALUES and place.layers == LLAMA_70B and chosen in ("q3_K", "q4_K"):
        chosen = "q5_K"
    return _first(_OF_MIXTRAL.get(kind, {}).get(place.file_type, ()), place) or chosen


Choice = tuple[Callable[[Place], bool], TensorType]
Rules = Mapping[GgufType, Sequence[Choice]]


def _first(choices: Sequence[Choice], place: Place) -> TensorType | None:
    return next((name for holds, name in choices if holds(place)), None)


def _always(_: Place) -> bool:
    return True


def _shares(place: Place) -> bool:
    return place.sharing >= MANY_SHARE


def _shares_or_has_experts(place: Place) -> bool:
    return _shares(place) or place.experts >= MANY_SHARE


def _in_first_eighth(place: Place) -> bool:
    return place.is_first_eighth


def _deserves_more(place: Place) -> bool:
    return place.deserves_more


def _has_no_imatrix(place: Place) -> bool:
    return not place.has_imatrix


def _early_without_imatrix(place: Place) -> bool:
    return place.is_first_eighth and not place.has_imatrix


def _early_with_imatrix(place: Place) -> bool:
    return place.is_first_eighth and place.has_imatrix


def _in_first_sixteenth(place: Place) -> bool:
    return place.layer < place.layers // 16


def _of_first_two(place: Place) -> bool:
    return place.layer < 2  # noqa: PLR2004


def _of_first_four(place: Place) -> bool:
    return place.layer < 4  # noqa: PLR2004


def _is_between(place: Place) -> bool:
    return place.layers // 8 <= place.layer < 7 * place.layers // 8


def _is_mixtral(place: Place) -> bool:
    return place.experts == MIXTRAL


def _is_no_mixtral(place: Place) -> bool:
    return not _is_mixtral(place)


def _is_mixtral_and_deserves_more(place: Place) -> bool:
    return _is_mixtral(place) and place.deserves_more


def _same(names: Collection[GgufType], *choices: Choice) -> Rules:
    return dict.fromkeys(names, choices)


_SMALLER_LOW: Collection[GgufType] = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS")
_LARGER_LOW: Collection[GgufType] = ("IQ2_S", "IQ2_M")
_VALUES: Rules = {
    **_same(_SMALLER_LOW, (_shares_or_has_experts, "q4_K"), (_always, "q2_K")),
    **_same(_LARGER_LOW, (_shares_or_has_experts, "q4_K"), (_always, "iq3_s")),
    "Q2_K": [(_shares, "q4_K"), (_always, "q3_K")],
    **_same(["Q2_K_S", "IQ3_XS", "IQ3_S"], (_shares, "q4_K")),
    "IQ3_XXS": [(_shares, "q4_K"), (_has_no_imatrix, "iq3_s")],
    "IQ3_M": [(_always, "q4_K")],
    "Q3_K_M": [(_of_first_two, "q5_K"), (_always, "q4_K")],
    "Q3_K_L": [(_always, "q5_K")],
    **_same(["IQ4_NL", "IQ4_XS"], (_shares, "q5_K")),
    **_same(["Q4_K_M", "Q5_K_M"], (_deserves_more, "q6_K")),
    "Q4_K_S": [(_of_first_four, "q5_K")],
}
_DOWN: Rules = {
    **_same(_SMALLER_LOW, (_in_first_eighth, "q2_K")),
    **_same(_LARGER_LOW, (_in_first_eighth, "iq3_s")),
    "Q2_K": [(_always, "q3_K")],
    "Q2_K_S": [(_in_first_eighth, "q4_K")],
    "IQ3_XXS": [(_early_without_imatrix, "q4_K"), (_has_no_imatrix, "q3_K")],
    "Q3_K_M": [(_in_first_sixteenth, "q5_K"), (_always, "q4_K")],
    "IQ3_M": [(_in_first_eighth, "q4_K"), (_is_mixtral_and_deserves_more, "q4_K")],
    "Q3_K_L": [(_always, "q5_K")],
    **_same(["Q4_K_M", "Q5_K_M"], (_deserves_more, "q6_K")),
    **_same(["IQ4_NL", "IQ4_XS"], (_early_without_imatrix, "q5_K")),
    "Q4_K_S": [(_in_first_eighth, "q5_K")],
    "Q4_0": [(_early_with_imatrix, "q4_1")],
    "Q5_0": [(_early_with_imatrix, "q5_1")],
}
_OUTPUT_OF_ATTENTION: Rules = {
    **_same(["IQ1_S", "IQ1_M"], (_always, "iq2_xxs")),
    **_same(_LARGER_LOW, (_always, "iq3_s")),
    "Q2_K": [(_always, "q3_K")],
    "IQ3_XXS": [(_always, "iq3_s")],
    **_same(["Q3_K_M", "IQ3_M"], (_always, "q4_K")),
    "Q3_K_L": [(_is_no_mixtral, "q5_K")],
}
_QUERIES_AND_KEYS: Rules = {"IQ3_XS": [(_always, "iq3_xxs")], "IQ3_XXS": [(_always, "iq2_s")]}
_GATE_AND_UP: Rules = {"IQ3_XS": [(_is_between, "iq3_xxs")]}
_EMBEDDING: Rules = {
    **_same(_SMALLER_LOW, (_always, "q2_K")),
    **_same([*_LARGER_LOW, "IQ3_XXS"], (_always, "iq3_s")),
}
_OUTPUT: Rules = {**_same([*MAIN], (_always, "q6_K")), **_same([*LOW, "IQ3_XXS"], (_always, "q5_K"))}

VALUES = ("attn_v", "attn_qkv")
_RULES: Mapping[str, Rules] = {
    **dict.fromkeys(VALUES, _VALUES),
    "attn_q": _QUERIES_AND_KEYS,
    "attn_k": _QUERIES_AND_KEYS,
    "attn_output": _OUTPUT_OF_ATTENTION,
    "ffn_gate": _GATE_AND_UP,
    "ffn_up": _GATE_AND_UP,
    "ffn_down": _DOWN,
    "token_embd": _EMBEDDING,
    "output": _OUTPUT,
}
_LOW_OF_MIXTRAL: Mapping[str, Sequence[Choice]] = {
    "attn_k": [(_is_mixtral, "q4_K")],
    "attn_output": [(_is_mixtral, "q5_K")],
}
_OF_MIXTRAL: Mapping[str, Rules] = {
    **dict.fromkeys((*VALUES, "attn_k"), _same([*MAIN], (_is_mixtral, "q8_0"))),
    "attn_output": _same(
        ["Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_XS"],
        (_is_mixtral, "q5_K"),
    ),
}
