"""A method that tells when its first line runs, in a real child. Registered through FEWBITS_METHOD_MODULES."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.queue.marks import Marker
from engines.context import EngineContext
from engines.methods.base import Forecast, Format, Material, Method, MethodParams, register
from engines.model_facts import ModelFacts


class NullParams(MethodParams):
    """A number, so that no two are the same work, and the named pipe to tell."""

    number: int
    marks: str


class NullMethod(Method):
    """Leaves an empty file."""

    name = "null"
    summary = "For measuring."
    Params = NullParams
    pool = "cpu"

    def engine(self, params: Any) -> str:
        """Return a name."""
        return "null 1"

    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        """Return that the model is read."""
        return {"snapshot": {}}

    def writes(self, params: Any) -> Format:
        """Return a format."""
        return "gguf"

    def parse_short(self, text: str) -> dict[str, Any]:
        """Return the parameters that ``text`` stands for."""
        number, marks = text.split(",", 1)
        return {"number": int(number), "marks": marks}

    def short(self, params: Any) -> str:
        """Return the recipe in short."""
        return f"null:{params.number},{params.marks}"

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return that next to nothing is needed."""
        return Forecast(memory_bytes=1, scratch_bytes=1)

    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        """Tell, and be done."""
        Marker(Path(params.marks)).mark()
        (context.output / "empty").touch()
        return {"size_bytes": 0, "bits_per_weight": 0.0, "tensor_types": {}}


register(NullMethod())
