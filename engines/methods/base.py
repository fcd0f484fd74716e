"""The shape of a quantization method, and the register of all of them.

A method is one file in this folder: a subclass of ``Method`` and a call of ``register``. Heavy libraries are
imported inside functions, so that the API can read every method's parameters without torch.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from engines.context import EngineContext
from engines.source import ModelFacts


class MethodParams(BaseModel):
    """The base of every method's parameters: an unknown field is an error, and values do not change."""

    # Strict: "5" is no number and true is not 1.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        """Return 5 for 5.0, which JSON Schema takes for an integer, too."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Forecast:
    """What a piece of work will need.

    Attributes:
        memory_bytes: peak main memory, without what lies on the device.
        scratch_bytes: peak disk in the scratch folder, the output included.
        vram_bytes: peak memory of the GPU; where there is none, main memory on top of the other.
    """

    memory_bytes: int
    scratch_bytes: int
    vram_bytes: int = 0


class Method(abc.ABC):
    """One way to make a model smaller.

    Attributes:
        name: as in a recipe, lower case.
        summary: one sentence for people.
        Params: the parameters; becomes the API's JSON Schema and the CLI's options.
        pool: which workers run it, ``cpu`` or ``gpu``.
        engine: the library that does the work, with its version; a new version means new results.
        reads: what it takes: the model's ``snapshot``, or its lossless conversion to ``gguf``.
        writes: the format of the result, which decides the runtime that judges it.
        needs_calibration: whether it looks at text.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Params: ClassVar[type[MethodParams]]
    pool: ClassVar[Literal["cpu", "gpu"]]
    engine: ClassVar[str]
    reads: ClassVar[Literal["snapshot", "gguf"]]
    writes: ClassVar[Literal["gguf", "gptq"]]
    needs_calibration: ClassVar[bool]

    @abc.abstractmethod
    def parse_short(self, text: str) -> dict[str, Any]:
        """Return the parameters that the short form ``name:text`` stands for, not yet validated.

        Args:
            text: what follows the colon; empty where the recipe is the bare name.
        """

    @abc.abstractmethod
    def short(self, params: Any) -> str:
        """Return the short form of validated ``params``, such as ``gguf:Q4_K_M``."""

    def check(self, facts: ModelFacts, params: Any) -> None:  # noqa: B027 - most methods take whatever they are given
        """Refuse parameters that do not go with a model of these facts, before anything is computed.

        Raises:
            InvalidRequest: ``param`` names the field, the message what would be valid.
            ModelUnsupported: the method cannot work on such a model.
        """

    @abc.abstractmethod
    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return what quantizing a model of these facts will need."""

    def result_bytes(self, facts: ModelFacts, params: Any) -> int:
        """Return about how large the result will be, before there is one; as the source where a method cannot say."""
        return facts.weight_bytes

    @abc.abstractmethod
    def quantize(self, context: EngineContext, source: Path, params: Any) -> Mapping[str, Any]:
        """Quantize ``source`` into ``context.output``.

        Args:
            context: folders, device and progress.
            source: the snapshot's folder or the converted file, as ``reads`` says; never written to.
            params: validated parameters.

        Returns:
            facts of the result as really written, JSON-compatible, at least ``size_bytes``, ``bits_per_weight``
            and ``tensor_types`` (a count of tensors for each storage type).
        """


_methods: dict[str, Method] = {}


def register(method: Method) -> None:
    """Make ``method`` known under its name.

    Raises:
        ValueError: another method has that name.
    """
    if method.name in _methods:
        raise ValueError(f"two methods are called {method.name!r}")
    _methods[method.name] = method


def registered() -> Mapping[str, Method]:
    """Return every method by its name."""
    return _methods
