"""The shape of a step kind. Adding one is a file here and a line in ``pipeline/kinds.py``."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from core.ids import ArtifactId
from core.steps import EvaluationRow, Input, UnboundStep
from engines.context import EngineContext
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts

MIB = 1 << 20

# What each step has found out, or is expected to find out, by its kind.
Facts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class StepContext:
    """What a step's run is given, in the child.

    Attributes:
        params: the execution's parameters.
        inputs: a read-only folder of each input artifact, by the kind of the step that made it.
        source_roots: folders that a fetch may read from.
        publish_roots: folders under which results may be published.
        engine: folders, device and progress.
    """

    params: Mapping[str, Any]
    inputs: Mapping[str, Path]
    source_roots: tuple[Path, ...]
    publish_roots: tuple[Path, ...]
    engine: EngineContext


@dataclass(frozen=True)
class Outcome:
    """What a run found out; the files it leaves are those in ``EngineContext.output``. Warnings are for the person."""

    facts: Mapping[str, Any]
    evaluations: Sequence[EvaluationRow] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Output:
    """What becomes of the files a step leaves.

    Attributes:
        role: ``snapshot``, ``intermediate`` or ``result``.
        format: such as ``safetensors``, ``gguf`` or ``documents``.
    """

    role: str
    format: str


class StepKind(abc.ABC):
    """One kind of step.

    Attributes:
        name: as in the tables and the API.
        version: raised when the same inputs would give another result; part of every key.
        is_external: whether others see what it does and it cannot be taken back: once begun, it completes.
        is_exclusive: whether it is alone on its host, and has all of its cores.
        reads: what the work knows of the steps before it: the ``files`` that they made, or what is on ``record`` of
            them (``UnboundStep.done``), which ``work_params`` puts into its parameters.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    is_external: ClassVar[bool] = False
    is_exclusive: ClassVar[bool] = False
    reads: ClassVar[Literal["files", "record"]] = "files"

    @abc.abstractmethod
    def engine(self, params: Mapping[str, Any]) -> str:
        """Return the library that does the work, with its version; part of every key."""

    @abc.abstractmethod
    def forecast(self, params: Mapping[str, Any], facts: Facts) -> Forecast:
        """Return the memory and the scratch disk that the work will need.

        Args:
            params: the step's parameters.
            facts: of the steps that it needs: what they found out or, before they have run, what ``expect`` says.
        """

    @abc.abstractmethod
    def run(self, context: StepContext) -> Outcome:
        """Do the work. Only the child calls this.

        Raises:
            FewbitsError: it cannot be done; the error's kind decides about another attempt.
        """

    def output(self, params: Mapping[str, Any]) -> Output | None:
        """Return what the files are that the step leaves; None where it leaves none."""
        return None

    def expect(self, params: Mapping[str, Any], model: ModelFacts) -> Mapping[str, Any]:
        """Return those facts that forecasts of later steps go by, as far as they can be told before it has run.

        Args:
            params: the step's parameters.
            model: the source.
        """
        return {}

    def further_inputs(self, params: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the ids of what the work reads beside what earlier steps have made, by what it calls them."""
        return {}

    def work_params(self, step: UnboundStep) -> Mapping[str, Any]:
        """Return the parameters of the work, which are part of its key."""
        return step.params


def model_facts(facts: Facts) -> ModelFacts:
    """Return what the fetch found out about the model."""
    return ModelFacts.of(facts["fetch"]["model"])


def input_facts(step: UnboundStep) -> Facts:
    """Return what the steps that a step needs have found out."""
    return {kind: value.facts for kind, value in step.inputs.items()}


def input_ids(inputs: Mapping[str, Input]) -> dict[str, ArtifactId]:
    """Return the artifacts that the work reads, by the kind of the step that made each."""
    return {kind: ArtifactId(value.artifact_id) for kind, value in inputs.items()}
