"""What is known of a model once its headers have been read: sizes, from which all that it will need is told."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from engines.weights import StoredTensor

NARROW_MATRICES = 6  # of a layer have rows as long as hidden states are wide; one has those of the feed-forward part
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of one shape whose names differ only in numbers, such as those of all layers.

    Attributes:
        name: with an asterisk for each number, as in ``model.layers.*.mlp.up_proj.weight``.
        shape: of each, outermost first.
        count: how many there are.
    """

    name: str
    shape: Sequence[int]
    count: int

    @property
    def element_count(self) -> int:
        """Elements of all of them."""
        return math.prod(self.shape) * self.count


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model once its folder has been read.

    Attributes:
        architecture: the class name in config.json, such as ``LlamaForCausalLM``.
        parameter_count: elements of all stored tensors.
        weight_bytes: bytes of all stored tensors.
        dtype: the storage type of most of the weights: ``bfloat16``, ``float16`` or ``float32``.
        hidden_size: width of the residual stream.
        layer_count: hidden layers.
        vocabulary_size: rows of the embedding.
        row_lengths: the different lengths of the rows of the layers' weights, ascending.
        tied_embeddings: whether the embedding is the output head, too; unknown of a model that was fetched before this
            was looked at, which counts as no.
        stacked_experts: whether all experts of a layer are stored as one tensor; likewise.
        position_count: how many tokens the model can read at once; 0 where that is unknown.
        head_count: heads of attention; 0 where that is unknown, as of the next two.
        kv_head_count: heads of keys and values.
        expert_count: experts of a layer; 0, too, where there are none.
        tensors: all tensors, by name and shape; none of a model that was fetched before this was looked at.
    """

    architecture: str
    parameter_count: int
    weight_bytes: int
    dtype: str
    hidden_size: int
    layer_count: int
    vocabulary_size: int
    row_lengths: Sequence[int]
    tied_embeddings: bool = False
    stacked_experts: bool = False
    position_count: int = 0
    head_count: int = 0
    kv_head_count: int = 0
    expert_count: int = 0
    tensors: Sequence[TensorGroup] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Return the facts that ``dataclasses.asdict`` and JSON have made a document of."""
        tensors = (TensorGroup(**{**group, "shape": tuple(group["shape"])}) for group in document.get("tensors", ()))
        return cls(**{**document, "row_lengths": tuple(document["row_lengths"]), "tensors": tuple(tensors)})

    @property
    def embedding_elements(self) -> int:
        """Elements of the embedding, and of an output head."""
        return self.vocabulary_size * self.hidden_size

    @property
    def outside_elements(self) -> int:
        """Elements of embedding and output head: what is in no layer, and is not quantized."""
        return self.embedding_elements * (1 if self.tied_embeddings else 2)

    @property
    def layer_elements(self) -> int:
        """Elements of a layer, the mean."""
        return max(self.parameter_count - self.outside_elements, 0) // self.layer_count

    @property
    def element_bytes(self) -> float:
        """Bytes of an element as it is stored, the mean."""
        return self.weight_bytes / self.parameter_count

    @property
    def longest_row(self) -> int:
        """The most columns of a layer's matrices: as a rule, those that come out of the feed-forward part."""
        return max(self.row_lengths, default=self.hidden_size)

    @property
    def hessian_elements(self) -> int:
        """Elements of the Hessians of a layer's matrices: each has its row length squared."""
        return NARROW_MATRICES * self.hidden_size**2 + self.longest_row**2

    @property
    def largest_tensor_elements(self) -> int:
        """A bound of the largest tensor: the embedding of small models, feed-forward or experts of large ones."""
        half_layer = self.parameter_count // max(self.layer_count, 1) // 2
        return max(self.vocabulary_size * self.hidden_size, half_layer)


def name_of_kind(name: str) -> str:
    """Return the name of a tensor or a module with an asterisk for each number in it: that of a layer, of an expert."""
    return _NUMBER.sub("*", name)


def tensor_groups(tensors: Mapping[str, StoredTensor]) -> tuple[TensorGroup, ...]:
    """Return all tensors that a model's files hold, by name and shape."""
    found = Counter((name_of_kind(name), tensor.shape) for name, tensor in tensors.items())
    return tuple(TensorGroup(name, shape, count) for (name, shape), count in sorted(found.items()))
