"""INT8 by llm-compressor: ``int8:w8a8``, ``int8:w8a16``. Writes compressed-tensors.

``w8a8`` rounds weights and activations, so that GPUs multiply integers: SmoothQuant (Xiao et al., 2023) first moves
what is hard to round from activations into weights, then GPTQ rounds those. ``w8a16`` rounds weights alone, by GPTQ.
"""

import re
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from core.errors import InvalidRequest
from engines import llmcompressor
from engines.compressed_files import Scheme
from engines.group_sizes import WHOLE_ROW
from engines.methods.base import Preset, register
from engines.methods.compressed import CompressedMethod, CompressedParams

SHORT = re.compile(r"(?P<scheme>w8a8|w8a16)(-g(?P<group>[0-9]{1,4}))?")


class Int8Params(CompressedParams):
    """What can be chosen."""

    scheme: Literal["w8a8", "w8a16"] = Field(default="w8a8", description="Round activations, too, or weights alone")
    group_size: Literal[-1, 32, 64, 128] = Field(
        default=-1,
        description="For w8a16: weights of a row that share a scale; must divide the rows. -1: the whole row",
    )
    smoothing_strength: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="For w8a8: how much of what is hard to round goes from activations into weights; 0: no smoothing",
    )
    dampening_frac: float = Field(
        default=0.01, gt=0, lt=1, description="Added to the Hessian's diagonal, as a part of its mean; more is steadier"
    )

    @field_validator("group_size")
    @classmethod
    def _groups_go_with_the_scheme(cls, group_size: int, info: ValidationInfo) -> int:
        if group_size != WHOLE_ROW and info.data.get("scheme") == "w8a8":
            raise ValueError("w8a8 has one scale a row, since integers are summed up along it: leave it at -1")
        return group_size


class Int8Method(CompressedMethod):
    """llm-compressor on the model as it was fetched, one layer at a time."""

    name = "int8"
    summary = "INT8 weights, and activations if wanted, for vLLM on GPUs since Turing; half the size."
    Params = Int8Params
    presets = (Preset("w8a8", {}, "Half the size, and faster with many requests at once, on GPUs without FP8."),)

    def parse_short(self, text: str) -> dict[str, Any]:
        """Return what ``w8a8``, ``w8a16`` or ``w8a16-g128`` stands for; the defaults if empty.

        Raises:
            InvalidRequest: the text is not of that form.
        """
        if not text:
            return {}
        match = SHORT.fullmatch(text.lower())
        if match is None:
            raise InvalidRequest(
                f"int8:{text[:80]} is not understood. Write int8:w8a8, int8:w8a16 or int8:w8a16-g128; the long form "
                "has every parameter.",
                param="recipe",
            )
        groups = {"group_size": int(match["group"])} if match["group"] else {}
        return {"scheme": match["scheme"], **groups}

    def short(self, params: Any) -> str:
        """Return the form that ``parse_short`` takes; smoothing, calibration and damping are not in it."""
        groups = "" if params.group_size == WHOLE_ROW else f"-g{params.group_size}"
        return f"{self.name}:{params.scheme}{groups}"

    def plan(self, params: Any) -> llmcompressor.Plan:
        """Return to what weights and activations are rounded, and how."""
        return llmcompressor.Plan(
            scheme=_scheme(params),
            rounding="gptq",
            dampening_frac=params.dampening_frac,
            actorder="static",
            smoothing_strength=params.smoothing_strength,
        )


def _scheme(params: Any) -> Scheme:
    is_both = params.scheme == "w8a8"
    return Scheme(
        type="int",
        bits=8,
        group_size=params.group_size,
        activations="token" if is_both else "none",
        smoothing="columns" if is_both and params.smoothing_strength else "none",
        ignore=params.left_out,
    )


register(Int8Method())
