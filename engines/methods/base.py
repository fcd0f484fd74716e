"""The shape of a quantization method, and the register of all of them.

A method is one file in this folder: a subclass of ``Method`` and a call of ``register``. Heavy libraries are
imported inside functions, so that the API can read every method's parameters without torch.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from engines.calibration import BUILT_IN, Calibration
from engines.checkpoints import matrices
from engines.context import EngineContext
from engines.datasets import OWN_ID, is_own
from engines.model_facts import ModelFacts
from engines.source import ANYWHERE, inspect_snapshot, weight_tensors

Material = Literal["snapshot", "gguf", "samples", "imatrix"]
Format = Literal["gguf", "gptq", "awq", "compressed-tensors"]


class MethodParams(BaseModel):
    """The base of every method's parameters: an unknown field is an error, and values do not change."""

    # Strict: "5" is no number and true is not 1.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        """Return 5 for 5.0, which JSON Schema takes for an integer, too."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


class CalibratedParams(MethodParams):
    """The parameters of a method that looks at text, beside its own."""

    calibration_text: str = Field(
        default="mixed",
        description=f"The text that is looked at: {', '.join(BUILT_IN)}, or the id of one that the team has uploaded",
        json_schema_extra={"pattern": f"^(?:{'|'.join(BUILT_IN)}|{OWN_ID})$"},
    )
    calibration_samples: int = Field(default=128, ge=1, le=4096, description="Samples of the calibration text")
    calibration_tokens: int = Field(default=512, ge=16, le=8192, description="Tokens of each sample")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Chooses the samples")

    @field_validator("calibration_text")
    @classmethod
    def _known(cls, text: str) -> str:
        if text not in BUILT_IN and not is_own(text):
            raise PydanticCustomError(
                "calibration_text",
                "Input should be {known}, or the id of a dataset of your team, which POST /v1/datasets gives, and "
                "'fewbits datasets upload FILE'",
                {"known": ", ".join(BUILT_IN)},
            )
        return text

    @property
    def calibration(self) -> Calibration:
        """The samples that are asked for."""
        return Calibration(self.calibration_text, self.calibration_samples, self.calibration_tokens, self.seed)


class WatchedParams(CalibratedParams):
    """The parameters of a method whose modules the sentinel hears of one by one, beside its own."""

    max_output_error: float = Field(
        default=0.5,
        gt=0,
        le=1000,
        description="Stop at a module that loses more: of the squares of its outputs on calibration text, or of its "
        "weights where no inputs are at hand, this part. 1 is what zeros in its place would lose",
    )


@dataclass(frozen=True)
class Preset:
    """A recipe that a practitioner would choose.

    Attributes:
        name: what follows the method's name and a colon; empty where the bare name stands for it.
        parameters: those that are not the method's defaults.
        why: what it is good for, in a sentence.
    """

    name: str
    parameters: Mapping[str, Any]
    why: str


@dataclass(frozen=True)
class Forecast:
    """What a piece of work will need.

    Attributes:
        memory_bytes: peak main memory, without what lies on the device.
        scratch_bytes: peak disk in the scratch folder, the output included.
        vram_bytes: peak memory of the GPU; where there is none, main memory on top of the other.
        needs_gpu: whether it cannot be done on a CPU, however much memory that has.
        seconds: about how long it takes on an NVIDIA H100 or, where it is of the pool ``cpu``, on two cores; None where
            that is not known.
    """

    memory_bytes: int
    scratch_bytes: int
    vram_bytes: int = 0
    needs_gpu: bool = False
    seconds: float | None = None


class Method(abc.ABC):
    """One way to make a model smaller.

    Attributes:
        name: as in a recipe, lower case.
        summary: one sentence for people.
        Params: the parameters; becomes the API's JSON Schema and the CLI's options.
        pool: which workers run it, ``cpu`` or ``gpu``.
        presets: recipes that people would choose, by the names that the short form knows them by.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Params: ClassVar[type[MethodParams]]
    pool: ClassVar[Literal["cpu", "gpu"]]
    presets: ClassVar[Sequence[Preset]] = ()

    def broken_off(self, params: Any) -> str:
        """Return for people what becomes of work that a worker had to leave."""
        return "begins anew"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the parameters, those that are the method's own before those that others have."""
        schema = self.Params.model_json_schema()
        named, shared = schema["properties"], [*WatchedParams.__annotations__, *CalibratedParams.model_fields]
        ordered = [name for name in named if name not in shared] + [name for name in shared if name in named]
        return {**schema, "properties": {name: named[name] for name in ordered}}

    @abc.abstractmethod
    def engine(self, params: Any) -> str:
        """Return the library that does the work, with its version; a new version means new results."""

    @abc.abstractmethod
    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        """Return all that the work is made of, each with how it is to be made.

        ``snapshot`` is the model as it was fetched, ``gguf`` its lossless conversion, ``samples`` are ids of text
        (parameters as ``CalibratedParams.calibration`` has them), ``imatrix`` is how much each column of a ``gguf``
        matters for ``samples``.
        """

    @abc.abstractmethod
    def writes(self, params: Any) -> Format:
        """Return the format of the result, which decides the runtime that judges it."""

    def tried_as(self, params: Any) -> str:
        """Return the column of ``engines.families`` that says with which models this works; the method's as a rule.

        A method that several engines do has one for each.
        """
        return self.name

    def promises(self, params: Any) -> Mapping[str, Any]:
        """Return what verification is to find, in the words that its format's reader knows; the parameters as a rule.

        A format that several methods write has words of its own.
        """
        plain: dict[str, Any] = params.model_dump(mode="json")
        return plain

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

    def check_matrices(self, found: Mapping[str, tuple[int, int]], params: Any) -> None:  # noqa: B027 - as above
        """Refuse parameters that do not go with single matrices of a model, before anything is computed.

        Args:
            found: rows and columns of each matrix that could be quantized, an output head among them, by its module.
            params: validated parameters.

        Raises:
            InvalidRequest: ``param`` names the field, the message what would be valid.
            ModelUnsupported: the method cannot work on such a matrix.
        """

    def check_snapshot(self, source: Path, params: Any) -> ModelFacts:
        """Look at a snapshot as ``check`` and ``check_matrices`` do, and return its facts.

        Raises:
            InvalidRequest: ``param`` names the field, the message what would be valid.
            ModelUnsupported: the method cannot work on it.
        """
        facts = inspect_snapshot(source)
        self.check(facts, params)
        self.check_matrices(matrices(weight_tensors(source, ANYWHERE), output_head=True), params)
        return facts

    @abc.abstractmethod
    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        """Return what quantizing a model of these facts will need."""

    def result_bytes(self, facts: ModelFacts, params: Any) -> int:
        """Return about how large the result will be, before there is one; as the source where a method cannot say."""
        return facts.weight_bytes

    @abc.abstractmethod
    def quantize(self, context: EngineContext, material: Mapping[Material, Path], params: Any) -> Mapping[str, Any]:
        """Quantize a model into ``context.output``.

        Args:
            context: folders, device and progress.
            material: the folders of all that ``self.material`` names; never written to.
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
