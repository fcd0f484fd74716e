"""``fewbits.json``: what a result is made of, how, and what was found out about it. Its shape and its JSON Schema.

The schema is published as ``docs/fewbits.schema.json``, printed by ``python -m pipeline.provenance`` (``make docs``). A
change that older readers cannot take is a new number in ``SCHEMA``. Refuses to know where any of it comes from.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

SCHEMA: Literal["urn:fewbits:provenance:1"] = "urn:fewbits:provenance:1"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PROVENANCE_NAME = "fewbits.json"
CARD_NAME = "README.md"
REPORT_NAME = "report.html"


class Part(BaseModel):
    """The base of every part: an unknown field is an error, and values do not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, serialize_by_alias=True, json_schema_serialization_defaults_required=True
    )

    @field_validator("*")
    @classmethod
    def _in_one_order(cls, value: Any) -> Any:
        """Return names in the order of the alphabet, so that the text is the same wherever the values were kept."""
        return dict(sorted(value.items())) if isinstance(value, dict) else value


class File(Part):
    """One file."""

    name: str = Field(description="Relative, with / between folders")
    size_bytes: int
    sha256: str


class Source(Part):
    """What was quantized."""

    url: str = Field(description="As the job named it")
    hub_id: str | None = Field(description="Its name on the Hugging Face Hub, where the URL says it")
    revision: str | None = Field(
        description="The commit or, where that is not known, the name for it; digest pins the files in any case"
    )
    digest: str = Field(description="sha256: and the SHA-256 of the snapshot's manifest")
    files: list[File] = Field(description="The snapshot, as it was fetched")
    architecture: str
    parameter_count: int
    weight_bytes: int
    dtype: str
    licenses: list[str] = Field(description="Of the source's own card, as the Hub calls them")
    license_name: str | None
    license_link: str | None
    pipeline_tag: str | None


class Recipe(Part):
    """How it was quantized."""

    method: str
    short: str = Field(description="The short form, which need not say everything")
    parameters: dict[str, Any] = Field(description="Every parameter that was of effect, defaults included")


class Condition(Part):
    """A condition that the result had to meet."""

    metric: str
    domain: str | None = Field(description="Null where it held on each text, and where it is of tasks")
    task: str | None = Field(default=None, description="Null where it held on each task, and where it is of texts")
    max: float | None
    min: float | None


class Dataset(Part):
    """A dataset of the team's own."""

    kind: str
    sha256: str


class Evaluation(Part):
    """On what text and by which tasks source and result were compared, and what was asked of the result."""

    domains: list[str]
    datasets: dict[str, Dataset] = Field(
        description="Those domains and tasks that are datasets of the team's own, by id"
    )
    windows: int = Field(
        description="Windows of 512 tokens of each text, or items of a dataset of another kind, that were asked for"
    )
    tasks: list[str] = Field(default_factory=list, description="Datasets that source and result had to solve")
    task_items: int | None = Field(
        default=None, description="Items that were asked for of each task; null where there were no tasks"
    )
    gate: list[Condition] = Field(description="Empty where nothing was asked")


class Calibration(Part):
    """The text that the method looked at."""

    text: str = Field(description="Its name, or its id where it is one of the team's own")
    text_sha256: str
    samples: int
    tokens: int = Field(description="Length of each sample")
    sha256: str = Field(description="Of all samples, in order")


class Result(Part):
    """What was made; this document and the model card are no part of it."""

    format: str
    digest: str = Field(description="sha256: and the SHA-256 of the manifest of the files")
    files: list[File]
    size_bytes: int | None
    bits_per_weight: float | None
    tensor_types: dict[str, int] = Field(description="Tensors of each storage type, as really written")


class Software(Part):
    """What did the work."""

    engine: str = Field(description="The library that quantized")
    judged_by: str = Field(description="What ran the result, to verify and to evaluate it")
    baseline_by: str = Field(description="What ran the source in full precision")
    libraries: dict[str, str] = Field(description="Versions that were installed where the result was made")


class Hardware(Part):
    """Where the result was made."""

    device: str = Field(description="cpu, or cuda: and a number")
    cpu: str
    gpu: str | None


class ModuleLoss(Part):
    """What the method measured of one module."""

    layer: int
    module: str
    loss: float


class Room(Part):
    """Bytes of memory, of a GPU's memory, and of scratch disk; null where nobody measured."""

    memory_bytes: int | None
    vram_bytes: int | None
    scratch_bytes: int | None


class Cost(Part):
    """What a step was given, and what it took."""

    step: str
    forecast: Room = Field(description="What was kept free; more than foreseen where a first attempt did not fit")
    peak: Room


class Check(Part):
    """One thing that verification looked at."""

    name: str
    passed: bool
    detail: str


class Score(Part):
    """How well text is predicted."""

    perplexity: float
    windows: int
    tokens: int


class Estimate(Part):
    """A figure with its 95 % interval, whose ends are null where there was too little to tell."""

    value: float
    low: float | None
    high: float | None


class Comparison(Part):
    """Source and result on one text."""

    domain: str
    baseline: Score | None = Field(description="The source in float32, on the same windows")
    result: Score | None
    measures: dict[str, Estimate] = Field(
        description="What was lost against full precision on the same tokens, by metric"
    )


class TaskScore(Part):
    """What is scored in a task."""

    accuracy: float = Field(description="The part of the answers that are right")
    rouge_l: float | None = Field(description="The mean ROUGE-L; null where the task is not of kind reference")


class TaskComparison(Part):
    """Source and result on the same items of one task."""

    task: str
    items: int
    baseline: TaskScore = Field(description="The source in full precision, on the same items")
    measures: dict[str, Estimate] = Field(
        description="What the result scores, and what it lost against full precision, by metric"
    )


class GateOutcome(Condition):
    """What became of one condition on one text or task."""

    measured: Estimate | None = Field(description="On the interval of which it was decided; its error is shared")
    decision: Literal["passed", "blocked", "undecided"] = Field(description="What is undecided counts as blocked")


class Spread(Part):
    """What repeats came to."""

    median: float
    min: float
    max: float


class BenchmarkPoint(Part):
    """What was measured at one context length and batch size."""

    context_tokens: int = Field(description="Length of each prompt")
    batch_size: int = Field(description="How many prompts were read, and gone on with, at once")
    prompt_tokens_per_second: Spread
    generation_tokens_per_second: Spread
    time_to_first_token_seconds: Spread


class BenchmarkHardware(Hardware):
    """Where the speed was measured."""

    threads: int = Field(description="Of the CPU, that were used")


class Benchmark(Part):
    """How fast the result was; to be compared only with what the same runtime did on the same hardware."""

    context_tokens: list[int] = Field(description="This and the next three are what was asked for")
    batch_sizes: list[int]
    generated_tokens: int
    repeats: int
    runtime: str
    hardware: BenchmarkHardware
    is_serving_speed: bool
    note: str
    load_seconds: float
    peak_memory_bytes: int | None
    peak_vram_bytes: int | None
    points: list[BenchmarkPoint]


class Generation(Part):
    """How source and result go on after the same beginning, each by the token that it finds likeliest."""

    domain: str = Field(description="The text that the beginning is of")
    prompt: str
    baseline: str = Field(description="The source in float32")
    result: str


class Provenance(Part):
    """Where a quantized model comes from: enough to judge it, and to make it again."""

    schema_: Literal["urn:fewbits:provenance:1"] = Field(alias="schema")
    source: Source
    recipe: Recipe
    evaluation: Evaluation
    seed: int | None = Field(description="Of the calibration samples; null where the method looks at no text")
    calibration: Calibration | None
    result: Result
    software: Software
    hardware: Hardware | None
    losses: list[ModuleLoss] | None = Field(description="Null where it was not kept; empty where nothing is measured")
    verification: list[Check]
    report: list[Comparison]
    tasks: list[TaskComparison] = Field(default_factory=list, description="Empty where none was asked for")
    verdict: Literal["passed", "blocked"] | None = Field(description="Of the gate; null where nothing was asked")
    gate: list[GateOutcome] = Field(description="What became of each condition on each text and task")
    benchmark: Benchmark | None = Field(default=None, description="Null where the speed was not measured")
    generations: list[Generation] = Field(
        default_factory=list, description="Source and result side by side; empty where an earlier version judged"
    )
    costs: list[Cost] = Field(description="Differs from run to run, and makes no difference to the result")

    def text(self) -> str:
        """Return the document as it is written."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document, in which every field is there."""
    schema = Provenance.model_json_schema(mode="serialization")
    return {"$schema": DIALECT, "$id": SCHEMA, **schema}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))  # noqa: T201 - a program whose output is printed text
