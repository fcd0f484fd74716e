"""INT4 weights by llm-compressor's GPTQ: ``int4:w4a16-g128``. Writes compressed-tensors, vLLM's own format.

The algorithm is that of ``gptq`` (Frantar et al., 2022); what differs is the format, and how the order of columns is
kept: columns are rounded in the order of their activations, and groups stay where they are.
"""

import re
from typing import Any, Literal

from pydantic import Field

from core.errors import InvalidRequest
from engines import llmcompressor
from engines.compressed_files import Scheme
from engines.group_sizes import WHOLE_ROW
from engines.methods.base import register
from engines.methods.compressed import CompressedMethod, CompressedParams

SHORT = re.compile(r"w4a16(-g(?P<group>[0-9]{1,4})|-(?P<whole>row))?(?P<asym>-asym)?")
BITS = 4


class Int4Params(CompressedParams):
    """What can be chosen."""

    group_size: Literal[-1, 32, 64, 128] = Field(
        default=128, description="Weights of a row that share a scale; must divide the rows. -1: the whole row"
    )
    symmetric: bool = Field(
        default=True, description="Scales around zero; without, each group has a zero point of its own"
    )
    actorder: Literal["static", "none"] = Field(
        default="static",
        description="Round the columns first whose activations are largest, which costs nothing at serving; or none",
    )
    dampening_frac: float = Field(
        default=0.01, gt=0, lt=1, description="Added to the Hessian's diagonal, as a part of its mean; more is steadier"
    )


class Int4Method(CompressedMethod):
    """llm-compressor on the model as it was fetched, one layer at a time."""

    name = "int4"
    summary = "INT4 weights by GPTQ in vLLM's own format, compressed-tensors; about a quarter of the size."
    Params = Int4Params

    def parse_short(self, text: str) -> dict[str, Any]:
        """Return what ``w4a16-g128``, ``w4a16-row`` or ``w4a16-g128-asym`` stands for; the defaults if empty.

        Raises:
            InvalidRequest: the text is not of that form.
        """
        if not text:
            return {}
        match = SHORT.fullmatch(text.lower())
        if match is None:
            raise InvalidRequest(
                f"int4:{text[:80]} is not understood. Write int4:w4a16-g128, with -row in place of -g128 for one scale "
                "a row, and -asym behind it; the long form has every parameter.",
                param="recipe",
            )
        given: dict[str, Any] = {"symmetric": not match["asym"]}
        if match["group"] or match["whole"]:
            given["group_size"] = WHOLE_ROW if match["whole"] else int(match["group"])
        return given

    def short(self, params: Any) -> str:
        """Return the form that ``parse_short`` takes; order, calibration and damping are not in it."""
        group = "row" if params.group_size == WHOLE_ROW else f"g{params.group_size}"
        return f"{self.name}:w4a16-{group}{'' if params.symmetric else '-asym'}"

    def plan(self, params: Any) -> llmcompressor.Plan:
        """Return to what weights and activations are rounded, and how."""
        return llmcompressor.Plan(
            scheme=_scheme(params),
            rounding="gptq",
            dampening_frac=params.dampening_frac,
            actorder=None if params.actorder == "none" else params.actorder,
        )


def _scheme(params: Any) -> Scheme:
    return Scheme(
        type="int", bits=BITS, group_size=params.group_size, symmetric=params.symmetric, ignore=params.left_out
    )


register(Int4Method())
