"""FP8 by llm-compressor: ``fp8``. Writes compressed-tensors, weights and activations in eight bits with an exponent.

Weights are rounded to E4M3 (Micikevicius et al., 2022). Activations are rounded while a server runs: each token by a
scale of its own, for which no text is looked at, or all by one that calibration text has shown.
"""

from typing import Any, Literal

from pydantic import Field

from core.errors import InvalidRequest
from engines import llmcompressor
from engines.compressed_files import Scheme
from engines.group_sizes import WHOLE_ROW
from engines.methods.base import Preset, register
from engines.methods.compressed import CompressedMethod, CompressedParams

WHOLE_MATRIX = 0


class Fp8Params(CompressedParams):
    """What can be chosen."""

    activations: Literal["dynamic", "static"] = Field(
        default="dynamic",
        description="Scale each token by what is in it, or all by one scale from calibration text: faster, less exact",
    )
    lm_head: bool = Field(default=False, description="Quantize the output head, too, where it is none of the embedding")


class Fp8Method(CompressedMethod):
    """llm-compressor on the model as it was fetched, one layer at a time."""

    name = "fp8"
    summary = "FP8 weights and activations, for vLLM and SGLang on Hopper, Ada and newer GPUs; half the size."
    Params = Fp8Params
    presets = (Preset("", {}, "Half the size and hardly any loss, without calibration, on GPUs that compute in FP8."),)

    def parse_short(self, text: str) -> dict[str, Any]:
        """Return what ``dynamic`` or ``static`` stands for.

        Raises:
            InvalidRequest: the text is neither.
        """
        if text.lower() not in ("dynamic", "static"):
            raise InvalidRequest(
                f"fp8:{text[:80]} is not understood. Write fp8 or fp8:static; the long form has every parameter.",
                param="recipe",
            )
        return {"activations": text.lower()}

    def short(self, params: Any) -> str:
        """Return the form that ``parse_short`` takes; what is left out, and calibration, are not in it."""
        return f"{self.name}:{params.activations}"

    def looks_at_text(self, params: Any) -> bool:
        """Return whether the scale of activations must be known beforehand."""
        return bool(params.activations == "static")

    def plan(self, params: Any) -> llmcompressor.Plan:
        """Return to what weights and activations are rounded, and how."""
        return llmcompressor.Plan(_scheme(params), "nearest")


def _scheme(params: Any) -> Scheme:
    is_static = params.activations == "static"
    return Scheme(
        type="float",
        bits=8,
        group_size=WHOLE_MATRIX if is_static else WHOLE_ROW,
        activations="static" if is_static else "token",
        ignore=params.left_out,
        lm_head=params.lm_head,
    )


register(Fp8Method())
