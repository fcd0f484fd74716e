"""AWQ: ``awq:4bit-g128``. Weights that meet large inputs matter most, and are made larger before they are rounded.

What each column is multiplied by is divided out of what feeds it, a norm or another matrix, so the model stays what it
was (Lin et al., 2023). Written as AutoAWQ wrote it, by GPTQModel, or as compressed-tensors, by llm-compressor.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from core.errors import InvalidRequest
from engines import gptqmodel, gptqmodel_work, llmcompressor
from engines.compressed_files import Scheme
from engines.context import EngineContext
from engines.methods import awq_gemm
from engines.methods.awq_gemm import BITS
from engines.methods.base import Forecast, Format, Material, Preset, register
from engines.methods.compressed import CompressedMethod, CompressedParams
from engines.model_facts import ModelFacts

SHORT = re.compile(r"4bit(-g(?P<group>[0-9]{1,4}))?(?P<sym>-sym)?(?P<ct>-ct)?")


class AwqParams(CompressedParams):
    """What can be chosen."""

    group_size: Literal[32, 64, 128] = Field(
        default=128, description="Weights of a row that share a scale; must divide the rows"
    )
    zero_point: bool = Field(
        default=True, description="A zero point for each group; without, scales are around zero and a little is lost"
    )
    format: Literal["gemm", "compressed-tensors"] = Field(
        default="gemm",
        description="How it is stored: as AutoAWQ did, for all servers, made by GPTQModel; or vLLM's own way, made by "
        "llm-compressor",
    )


class AwqMethod(CompressedMethod):
    """GPTQModel or llm-compressor, by the format, on the model as it was fetched, one layer at a time."""

    name = "awq"
    summary = "AWQ, 4 bits, in AutoAWQ's format or compressed-tensors, for vLLM, SGLang, transformers; best on a GPU."
    Params = AwqParams
    presets = (
        Preset("4bit-g128", {}, "As small and as fast to serve as GPTQ, and less bound to the text it was made with."),
    )

    def engine(self, params: Any) -> str:
        """Return GPTQModel's or llm-compressor's version."""
        return gptqmodel.VERSION if _is_gemm(params) else super().engine(params)

    def broken_off(self, params: Any) -> str:
        """Return where it goes on with AutoAWQ's format, and that it does not with the other."""
        if not _is_gemm(params):
            return super().broken_off(params)
        return f"{gptqmodel_work.resumption()}, and as compressed-tensors always"

    def writes(self, params: Any) -> Format:
        """Return AutoAWQ's format or compressed-tensors."""
        return "awq" if _is_gemm(params) else super().writes(params)

    def tried_as(self, params: Any) -> str:
        """Return a column for each engine."""
        return self.name if _is_gemm(params) else f"{self.name} as {self.writes(params)}"

    def promises(self, params: Any) -> Mapping[str, Any]:
        """Return the parameters for AutoAWQ's format, the scheme for the other."""
        plain: dict[str, Any] = params.model_dump(mode="json")
        return plain if _is_gemm(params) else super().promises(params)

    def parse_short(self, text: str) -> dict[str, Any]:
        """Return what ``4bit-g128``, ``4bit-g64-sym`` or ``4bit-g128-ct`` stands for; the defaults if empty.

        Raises:
            InvalidRequest: the text is not of that form.
        """
        if not text:
            return {}
        match = SHORT.fullmatch(text.lower())
        if match is None:
            raise InvalidRequest(
                f"awq:{text[:80]} is not understood. Write awq:4bit-g128, with -sym behind it for scales around zero, "
                "and -ct for compressed-tensors; AWQ has 4 bits, and the long form has every parameter.",
                param="recipe",
            )
        given: dict[str, Any] = {"zero_point": not match["sym"]}
        if match["group"]:
            given["group_size"] = int(match["group"])
        if match["ct"]:
            given["format"] = "compressed-tensors"
        return given

    def short(self, params: Any) -> str:
        """Return the form that ``parse_short`` takes; calibration and rules are not in it."""
        signs = "-sym" * (not params.zero_point) + "-ct" * (not _is_gemm(params))
        return f"{self.name}:{BITS}bit-g{params.group_size}{signs}"

    def check(self, facts: ModelFacts, params: Any) -> None:
        """Refuse what the engine cannot do.

        Raises:
            InvalidRequest: naming the field and the row length.
        """
        check = awq_gemm.check if _is_gemm(params) else super().check
        check(facts, params)

    def check_matrices(self, found: Mapping[str, tuple[int, int]], params: Any) -> None:
        """Refuse what does not go with single matrices.

        Raises:
            InvalidRequest: naming the module.
            ModelUnsupported: a size of a matrix is not for GPTQModel.
        """
        check = awq_gemm.check_matrices if _is_gemm(params) else super().check_matrices
        check(found, params)

    def plan(self, params: Any) -> llmcompressor.Plan:
        """Return to what llm-compressor rounds weights, and how."""
        scheme = Scheme(
            type="int",
            bits=BITS,
            group_size=params.group_size,
            symmetric=not params.zero_point,
            smoothing="pairs",
            ignore=params.left_out,
        )
        return llmcompressor.Plan(scheme, "nearest")

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return what the engine needs."""
        forecast = awq_gemm.forecast if _is_gemm(params) else super().forecast
        return forecast(facts, params)

    def result_bytes(self, facts: ModelFacts, params: Any) -> int:
        """Return how large the engine's result is."""
        size = awq_gemm.result_bytes if _is_gemm(params) else super().result_bytes
        return size(facts, params)

    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        """Write a folder as ``save_pretrained`` does; see ``awq_gemm.quantize`` and ``llmcompressor.quantize``."""
        if not _is_gemm(params):
            return super().quantize(context, material, params)
        self.check_snapshot(material["snapshot"], params)
        return awq_gemm.quantize(context, material, params)


def _is_gemm(params: Any) -> bool:
    return bool(params.format == "gemm")


register(AwqMethod())
