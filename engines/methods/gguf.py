"""GGUF by llama.cpp's own quantizer, one type a recipe: ``gguf:Q4_K_M``.

Types that llama.cpp refuses or spoils without an importance matrix (Q2_K_S, IQ1 to IQ4) are left out.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from engines.context import EngineContext, Progress
from engines.gguf_file import gguf_in, read_gguf_facts
from engines.llama_cpp import VERSION, run_tool
from engines.methods.base import Forecast, Format, Material, Method, MethodParams, Preset, register
from engines.source import ModelFacts

GgufType = Literal[
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
SIXTEEN_BIT_TYPES = ("F16", "BF16")
SUPER_BLOCK = 256  # elements; rows that it does not divide fall back to larger types
FALLBACK_BITS = 8.5
HEADER_BYTES = 64 * 2**20  # vocabulary and metadata, generously
PROCESS_BYTES = 256 * 2**20

# "[  12/ 291]  blk.1.attn_q.weight - [ 4096, …": one line for each tensor, printed once it is done
TENSOR_LINE = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)")


class GgufParams(MethodParams):
    """What can be chosen."""

    type: GgufType = Field(default="Q4_K_M", description="llama.cpp's name of the quantization type")


class GgufMethod(Method):
    """llama.cpp's quantizer on the lossless conversion of a model."""

    name = "gguf"
    summary = "GGUF for llama.cpp and what is built on it, from about 2.6 to 16 bits per weight; runs on the CPU."
    Params = GgufParams
    pool = "cpu"
    presets = (Preset("Q4_K_M", {}, "The usual choice: a good third of the size, and hardly anything lost."),)

    def engine(self, params: Any) -> str:
        """Return llama.cpp's version."""
        return VERSION

    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        """Return that the lossless conversion is quantized."""
        return {"gguf": {}}

    def writes(self, params: Any) -> Format:
        """Return that it is GGUF."""
        return "gguf"

    def parse_short(self, text: str) -> dict[str, Any]:
        """Return the type named by ``text``, in either case; the default where it is empty."""
        return {"type": text.upper()} if text else {}

    def short(self, params: Any) -> str:
        """Return ``gguf:`` and the type."""
        return f"{self.name}:{params.type}"

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return what llama-quantize will need: one tensor in float32 and quantized, and room for the result."""
        return Forecast(
            memory_bytes=PROCESS_BYTES + 8 * facts.largest_tensor_elements,
            scratch_bytes=HEADER_BYTES + self.result_bytes(facts, params),
        )

    def result_bytes(self, facts: ModelFacts, params: Any) -> int:
        """Return what the result's weights will hardly exceed."""
        return int(facts.parameter_count * _bits_bound(facts, params.type) / 8)

    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        """Write ``model-<type>.gguf``.

        Raises:
            ToolFailed: llama-quantize refused or failed.
            DoesNotFit: the result could not be written.
        """
        target = context.output / f"model-{params.type}.gguf"

        def follow(line: str) -> None:
            if match := TENSOR_LINE.match(line.strip()):
                done, total, tensor = match.groups()
                context.report(Progress(int(done), int(total), "tensors", tensor))

        try:
            run_tool(
                "llama-quantize",
                [gguf_in(material["gguf"]), target, params.type, str(context.threads)],
                cwd=context.scratch,
                on_line=follow,
            )
        except BaseException:
            target.unlink(missing_ok=True)  # a failed run leaves a part, which must not pass for a result
            raise
        return dict(read_gguf_facts(target))


def _bits_bound(facts: ModelFacts, name: str) -> float:
    """Return bits per weight that the result will hardly exceed."""
    if name in SIXTEEN_BIT_TYPES:
        return 16.0
    digit = int(name[1])
    # Tensors that matter most get a larger type; a small model is mostly embedding, which is kept at q6_K.
    mixed = max(digit + 2.0, 6.6)
    return max(mixed, FALLBACK_BITS) if facts.hidden_size % SUPER_BLOCK or name == "Q8_0" else mixed


register(GgufMethod())
