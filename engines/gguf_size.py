"""How large a GGUF file will be, from a model's headers alone."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidRequest
from engines.gguf_mixture import Place, mixture_type
from engines.gguf_types import MAIN, STORAGE, TensorType, asked_types, stored_as
from engines.model_facts import ModelFacts, TensorGroup

FULL_BITS = 32  # of vectors and of what decides between experts
HEADER_BYTES_A_TOKEN = 31  # of a tokenizer of byte pairs, its merges included
NOT_OF_TEXT = re.compile(r"vision|visual|multi_modal|mm_|audio")  # parts that llama.cpp has in a file of their own
KEPT = ("ffn_gate_inp", "position_embd")
# What follows ``layers.N.`` or stands before all layers, and what the matrix is called in GGUF.
ROLES: Mapping[str, str] = {
    "embed_tokens": "token_embd",
    "wte": "token_embd",
    "wpe": "position_embd",
    "lm_head": "output",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "qkv_proj": "attn_qkv",
    "c_attn": "attn_qkv",
    "o_proj": "attn_output",
    "attn.c_proj": "attn_output",
    "gate": "ffn_gate_inp",
    "router": "ffn_gate_inp",
    "gate_proj": "ffn_gate",
    "w1": "ffn_gate",
    "up_proj": "ffn_up",
    "gate_up_proj": "ffn_up",
    "w3": "ffn_up",
    "c_fc": "ffn_up",
    "down_proj": "ffn_down",
    "w2": "ffn_down",
    "mlp.c_proj": "ffn_down",
}
TRANSPOSED = ("c_attn", "c_fc", "c_proj")  # GPT-2's lie with their columns first


@dataclass(frozen=True)
class _Matrix:
    role: str
    layer: int
    columns: int
    elements: int

    @property
    def name(self) -> str:
        """Its name in GGUF."""
        is_outside = self.role in ("token_embd", "output")
        return f"{self.role}.weight" if is_outside else f"blk.{self.layer}.{self.role}.weight"


def file_bytes(facts: ModelFacts, params: Any) -> int:
    """Return about how large the result of a ``gguf`` recipe is; as the source where its tensors are not known."""
    groups = [group for group in facts.tensors if not NOT_OF_TEXT.search(group.name)]
    if not groups:
        return facts.weight_bytes
    vectors = sum(group.element_count for group in groups if len(group.shape) == 1)
    matrices = [matrix for group in groups if len(group.shape) > 1 for matrix in _in_gguf(group, facts)]
    asked = _asked(matrices, params)
    bits = FULL_BITS * vectors + sum(matrix.elements * _bits(matrix, facts, params, asked) for matrix in matrices)
    return int(bits / 8) + HEADER_BYTES_A_TOKEN * facts.vocabulary_size


def _in_gguf(group: TensorGroup, facts: ModelFacts) -> Iterator[_Matrix]:
    """Yield the matrices that become one in a file for each layer, where experts are one."""
    parts = group.name.removesuffix(".weight").split(".")
    role = ROLES.get(".".join(parts[-2:])) or ROLES.get(parts[-1], parts[-1])
    columns = group.shape[0 if parts[-1] in TRANSPOSED else -1]
    if "*" not in parts:
        yield _Matrix(role, 0, columns, group.element_count)
        return
    role = f"{role}_exps" if "experts" in parts else role
    for layer in range(facts.layer_count):
        yield _Matrix(role, layer, columns, group.element_count // facts.layer_count)


def _asked(matrices: list[_Matrix], params: Any) -> Mapping[str, TensorType]:
    names = [matrix.name for matrix in matrices if matrix.role not in KEPT]
    try:
        return asked_types(names, params.tensor_types, params.token_embedding_type, params.output_type)
    except InvalidRequest:  # a pattern for a tensor whose name is not known here
        return asked_types(names, {}, params.token_embedding_type, params.output_type)


def _bits(matrix: _Matrix, facts: ModelFacts, params: Any, asked: Mapping[str, TensorType]) -> float:
    if matrix.role in KEPT:
        return FULL_BITS
    is_head = matrix.role == "token_embd" and facts.tied_embeddings
    place = Place(
        file_type=params.type,
        layer=matrix.layer,
        layers=facts.layer_count,
        sharing=facts.head_count // (facts.kv_head_count or facts.head_count or 1),
        experts=facts.expert_count,
        has_imatrix=params.imatrix,
    )
    role = "output" if is_head else matrix.role
    wanted = asked.get(matrix.name) or mixture_type(role, place)
    if role == "output" and matrix.name not in asked and matrix.columns % STORAGE[MAIN[params.type]].block:
        wanted = "q8_0"
    return STORAGE[stored_as(wanted, matrix.columns)].bits
