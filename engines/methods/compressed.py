"""What the methods have in common that llm-compressor does and that write compressed-tensors. No method itself."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from core.errors import InvalidRequest
from engines import gpu_time, llmcompressor
from engines.checkpoints import is_in_layer
from engines.compressed_files import OUTPUT_HEAD, WORD_BITS, Scheme
from engines.context import EngineContext
from engines.group_sizes import require_groups
from engines.methods.base import Forecast, Format, Material, Method, WatchedParams
from engines.model_facts import ModelFacts
from engines.module_rules import Rules, SkipRule, dynamic, require_alike, require_matches
from engines.sentinel import Sentinel

PROCESS_BYTES = 3 * 2**30  # torch with CUDA, transformers, llm-compressor
HEADS_COPIES = 2.5  # of an output head while the result is written
LAYER_COPIES = 3  # of a layer that is rounded without samples, at the most: with the head nothing else has shown
HEADER_BYTES = 64 * 2**20
SMALLEST_HEAD = 64  # width of an attention head; there are at most as many heads as of this width
KEPT_WIDTHS = 5  # of AWQ: inputs of attention, its output matrix and the feed-forward part, and two outputs of one


class CompressedParams(WatchedParams):
    """The parameters of each of them, beside its own."""

    modules: Rules[SkipRule] = Field(
        default=(),
        description="Modules to leave as they are, by regular expressions for whole names. Servers run q, k and v as "
        "one, and gate and up: leave out all of these, or none",
    )

    @property
    def left_out(self) -> tuple[str, ...]:
        """The patterns of what is left as it is."""
        return tuple(rule.match for rule in self.modules)


class CompressedMethod(Method):
    """llm-compressor on the model as it was fetched, one layer at a time."""

    pool = "gpu"

    @abc.abstractmethod
    def plan(self, params: Any) -> llmcompressor.Plan:
        """Return to what weights and activations are rounded, and how."""

    def looks_at_text(self, params: Any) -> bool:
        """Return whether calibration text is needed."""
        return True

    def engine(self, params: Any) -> str:
        """Return llm-compressor's version."""
        return llmcompressor.VERSION

    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        """Return that the model itself is quantized, by samples of text where they are needed."""
        samples: Mapping[Material, Mapping[str, Any]] = {"samples": asdict(params.calibration)}
        return {"snapshot": {}, **(samples if self.looks_at_text(params) else {})}

    def writes(self, params: Any) -> Format:
        """Return that it is compressed-tensors."""
        return "compressed-tensors"

    def promises(self, params: Any) -> Mapping[str, Any]:
        """Return the scheme."""
        return asdict(self.plan(params).scheme)

    def check(self, facts: ModelFacts, params: Any) -> None:
        """Refuse rows that groups do not divide or that do not fill words, and a head that is the embedding.

        Raises:
            InvalidRequest: naming the field and the row length.
        """
        scheme = self.plan(params).scheme
        # With rules it depends on the modules; see ``check_matrices``.
        for length in () if params.modules else facts.row_lengths:
            _require_fit(scheme, f"this model's rows of {length} weights", length, facts.row_lengths)
        if scheme.lm_head and facts.tied_embeddings:
            raise InvalidRequest(
                "This model's output head is its embedding, which is not quantized. Set lm_head to false.",
                param="recipe.lm_head",
            )

    def check_matrices(self, found: Mapping[str, tuple[int, int]], params: Any) -> None:
        """Refuse rules for no module, or that part what servers run as one, and rows that do not go with the scheme.

        Raises:
            InvalidRequest: naming the module.
        """
        scheme = self.plan(params).scheme
        meant = {name: shape for name, shape in found.items() if is_in_layer(name)}
        require_matches({"dynamic": dynamic(rule.model_dump() for rule in params.modules)}, meant)
        require_alike({name: scheme.quantizes(name) for name in meant})
        for name, (_, columns) in meant.items():
            if scheme.quantizes(name):
                _require_fit(scheme, f"the rows of {columns} weights of {name}", columns, (columns,))
        if scheme.lm_head and OUTPUT_HEAD not in found:
            raise InvalidRequest(
                f"This model has no output head called {OUTPUT_HEAD}. Set lm_head to false.", param="recipe.lm_head"
            )

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return what llm-compressor needs.

        The model and what goes from layer to layer lie in main memory; a layer is on the device, with what is computed
        of a batch there.
        """
        bytes_of_text = token_count = 0
        written = int(HEADS_COPIES * facts.embedding_elements * facts.element_bytes)
        vram = max(written, LAYER_COPIES * _layer_bytes(facts))
        if self.looks_at_text(params):
            token_count = params.calibration.token_count
            bytes_of_text = int(facts.element_bytes * token_count * facts.hidden_size)
            vram = max(_rounding_bytes(facts), self._trying_bytes(facts, params))
        result_bytes = self.result_bytes(facts, params)
        return Forecast(
            memory_bytes=PROCESS_BYTES + facts.weight_bytes + bytes_of_text,
            vram_bytes=vram,
            scratch_bytes=result_bytes + HEADER_BYTES,
            seconds=gpu_time.seconds(facts, self.plan(params).passes, token_count, result_bytes),
        )

    def _trying_bytes(self, facts: ModelFacts, params: Any) -> int:
        """Return what is on the device while samples go through the first layer: the embedding is there, too."""
        tokens = params.calibration_tokens
        batch = max(1, llmcompressor.BATCH_TOKENS // tokens)
        heads = facts.head_count or facts.hidden_size // SMALLEST_HEAD
        # Attention's scores as they are, in float32 behind softmax, and cast back.
        held = facts.embedding_elements + facts.layer_elements + 4 * batch * heads * tokens**2
        if self.plan(params).scheme.smoothing == "pairs":
            # What each part that is tried reads, with the masks, and what it makes of it in full and when tried.
            widths = KEPT_WIDTHS * facts.hidden_size + facts.longest_row + tokens
            return int(facts.element_bytes * (held + params.calibration_samples * tokens * widths))
        return int(facts.element_bytes * held) + 4 * facts.hessian_elements

    def result_bytes(self, facts: ModelFacts, params: Any) -> int:
        """Return how large the result is, as if nothing was left out: embedding and output head stay as they are."""
        scheme = self.plan(params).scheme
        kept = facts.outside_elements - (facts.embedding_elements if scheme.lm_head else 0)
        packed = (facts.parameter_count - kept) * scheme.weight_bits / 8
        return int(packed + kept * facts.element_bytes)

    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        """Write a folder as ``save_pretrained`` does, with ``quantization_config``; see ``llmcompressor.quantize``."""
        source = material["snapshot"]
        self.check_snapshot(source, params)
        sentinel = Sentinel(params.model_dump(mode="json"))
        return llmcompressor.quantize(context, source, material.get("samples"), self.plan(params), sentinel)


def _layer_bytes(facts: ModelFacts) -> int:
    return int(facts.layer_elements * facts.element_bytes)


def _rounding_bytes(facts: ModelFacts) -> int:
    """Return what is on the device while GPTQ rounds a layer's widest matrix: it and its Hessian, three times each."""
    matrix = facts.hidden_size * facts.longest_row
    return _layer_bytes(facts) + 4 * (facts.hessian_elements + 2 * facts.longest_row**2 + 3 * matrix)


def _require_fit(scheme: Scheme, what: str, length: int, lengths: Sequence[int]) -> None:
    if scheme.format == "pack-quantized" and length * scheme.bits % WORD_BITS:
        raise InvalidRequest(
            f"{scheme.bits} bits do not pack {what} into words of {WORD_BITS}. Choose another method, such as fp8.",
            param="recipe.method",
        )
    require_groups(what, length, scheme.group_size, lengths, "another method")
