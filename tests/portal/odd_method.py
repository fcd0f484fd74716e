"""A method whose parameters are of every kind that a form must know; registers publicly, as any other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from engines.context import EngineContext
from engines.methods.base import Forecast, Format, Material, Method, MethodParams, register
from engines.model_facts import ModelFacts


class Calibration(BaseModel):
    domains: list[Literal["prose", "code"]] = Field(default=["prose"], description="Texts to calibrate on")
    samples: int = Field(default=128, ge=1, le=4096, description="Sequences that are looked at")


class OddParams(MethodParams):
    bits: Literal[2, 3, 4, 8] = Field(default=4, description="Bits of a weight")
    group_size: Literal[-1, 32, 64, 128] = Field(default=128, description="Weights that share a scale; -1 for a row")
    damp_percent: float = Field(default=0.01, gt=0, lt=1, description="Added to the Hessian's diagonal")
    desc_act: bool = Field(default=False, description="Take columns with large activations first")
    sym: bool = Field(default=True, description="Scales without zero points")
    seed: int | None = Field(default=None, ge=0, description="Makes the choice of samples repeatable")
    format: Literal["v1", "v2"] | None = Field(default=None, description="Of the checkpoint")
    calibration: Calibration = Calibration()
    skip: list[str] = Field(default=[], description="Modules that are left as they are")
    dynamic: dict[str, Annotated[int, Field(ge=2, le=8)]] = Field(default={}, description="Bits of single modules")


class OddMethod(Method):
    name = "odd"
    summary = "For tests of the form."
    Params = OddParams
    pool = "cpu"

    def engine(self, params: Any) -> str:
        return "odd 1"

    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        return {"snapshot": {}}

    def writes(self, params: Any) -> Format:
        return "gguf"

    def parse_short(self, text: str) -> dict[str, Any]:
        return {"bits": int(text)} if text else {}

    def short(self, params: Any) -> str:
        return f"odd:{params.bits}"

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        return Forecast(memory_bytes=1, scratch_bytes=1)

    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        raise NotImplementedError


register(OddMethod())
