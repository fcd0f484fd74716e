"""The API's objects, as typed dictionaries.

They are dictionaries and not classes on purpose: what the server sent is kept whole, so a field that a newer server
adds passes through to a caller and to ``--json`` instead of being dropped or refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypedDict, TypeVar

from fewbits_client.results import Condition, Result

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
StepStatus = Literal["waiting", "ready", "running", "succeeded", "failed", "cancelled", "skipped"]
TextFormat = Literal["text", "jsonl"]
DatasetKind = Literal["text", "documents", "chat", "completion", "multiple_choice", "reference", "code"]

T = TypeVar("T")

OVER = frozenset({"succeeded", "failed", "cancelled"})
STEP_OVER = OVER | {"skipped"}


class JobError(TypedDict):
    """Why a job or a step failed, and what to do."""

    code: str
    message: str
    param: str | None


class Progress(TypedDict):
    """How far a running step is; `total` and `seconds_left` are null where they are not known."""

    done: float
    total: float | None
    unit: str
    message: str
    seconds_left: float | None


class Step(TypedDict):
    """One stage of one job."""

    id: str
    kind: str
    status: StepStatus
    pool: str
    attempt: int
    reused: bool
    progress: Progress | None
    started_at: str | None
    finished_at: str | None
    error: JobError | None


class BenchmarkWanted(TypedDict, total=False):
    """How a result's speed is measured; what is absent of a request is left to the server's defaults."""

    context_tokens: Sequence[int]
    batch_sizes: Sequence[int]
    generated_tokens: int
    repeats: int


class Evaluation(TypedDict):
    """The text that a job is judged on, and the datasets that are its tasks."""

    domains: list[str]
    windows: int
    tasks: list[str]
    task_items: int


class Job(TypedDict):
    """One recipe on one source."""

    id: str
    object: Literal["job"]
    created_at: str
    started_at: str | None
    finished_at: str | None
    status: JobStatus
    source: str
    method: str
    recipe: str
    parameters: dict[str, Any]
    evaluation: Evaluation
    gate: list[Condition]
    verdict: Literal["passed", "blocked"] | None
    benchmark: BenchmarkWanted | None
    priority: int
    metadata: dict[str, str]
    labels: list[str]
    retry_of: str | None
    sweep: str | None
    max_runtime_seconds: int | None
    max_pending_seconds: int | None
    max_attempts: int | None
    wait_for_capacity: bool
    publish_to: str | None
    published: bool
    waits_for: list[str]
    error: JobError | None
    steps: list[Step]
    result: Result | None


class Event(TypedDict):
    """Something that happened to a job; `id` counts from 1 within the job."""

    id: int
    object: Literal["job.event"]
    created_at: str
    level: Literal["info", "warn", "error"]
    type: Literal["message", "metrics", "state"]
    message: str
    data: dict[str, Any]


class LogChunk(TypedDict):
    """A piece of what a step's process printed."""

    id: int
    object: Literal["job.log"]
    step: str
    attempt: int
    created_at: str
    text: str


class Metric(TypedDict):
    """What a step measured of one module of one layer, by name, such as its `loss`."""

    id: int
    object: Literal["job.metric"]
    step: str
    attempt: int
    layer: int
    module: str
    values: dict[str, float]
    created_at: str


class Attempt(TypedDict):
    """One try of a step's work; `outcome` is null while it runs, and a peak where it was not measured."""

    object: Literal["job.attempt"]
    step: str
    number: int
    host: str
    device: str
    started_at: str
    ended_at: str | None
    outcome: Literal["succeeded", "failed", "lost", "released", "cancelled"] | None
    error: JobError | None
    forecast_memory_bytes: int | None
    forecast_vram_bytes: int | None
    forecast_scratch_bytes: int | None
    peak_memory_bytes: int | None
    peak_vram_bytes: int | None
    peak_scratch_bytes: int | None


class PlannedStep(TypedDict):
    """One stage that a job would have; forecasts are null where the server cannot see the source."""

    kind: str
    pool: str
    needs: list[str]
    memory_bytes: int | None
    vram_bytes: int | None
    scratch_bytes: int | None
    seconds: float | None
    reused: bool
    refused: str | None


class ModelSizes(TypedDict):
    """What the headers of a model say."""

    architecture: str
    parameter_count: int
    size_bytes: int
    dtype: str
    layer_count: int


class Plan(TypedDict):
    """What a job would come to; `refusals` says why it would not be taken."""

    object: Literal["plan"]
    source: str
    recipe: str
    model: ModelSizes | None
    steps: list[PlannedStep]
    result_bytes: int | None
    fetched_at: str | None
    warnings: list[str]
    refusals: list[JobError]


class Quota(TypedDict):
    """One limit of the team, and how much of it is used; `maximum` is null where there is none."""

    object: Literal["quota"]
    name: str
    used: int
    maximum: int | None


class ArtifactFile(TypedDict):
    """One file of an artifact; `sha256` is in hexadecimal."""

    name: str
    size_bytes: int
    sha256: str


class Artifact(TypedDict):
    """An immutable set of files."""

    id: str
    object: Literal["artifact"]
    created_at: str
    format: str
    digest: str
    size_bytes: int
    files: list[ArtifactFile]


class Dataset(TypedDict):
    """A dataset that the team has uploaded."""

    id: str
    object: Literal["dataset"]
    created_at: str
    name: str
    kind: DatasetKind
    sha256: str
    size_bytes: int
    documents: int


class Preset(TypedDict):
    """A recipe that many would choose."""

    recipe: str
    parameters: dict[str, Any]
    why: str


class Method(TypedDict):
    """A way to quantize, with the JSON Schema of its parameters."""

    name: str
    object: Literal["method"]
    summary: str
    pool: str
    engine: str
    format: str
    needs_calibration: bool
    default: str
    presets: list[Preset]
    parameters: dict[str, Any]


class Tokenizer(TypedDict):
    """What turns a model's text into numbers; `vocabulary_size` is null where no readable file lists it."""

    kind: str | None
    vocabulary_size: int | None
    special_tokens: dict[str, str]


class RecipeFit(TypedDict):
    """Whether a recipe goes with a model, and which runtimes serve what it makes."""

    recipe: str
    method: str
    fits: bool
    error: JobError | None
    warnings: list[str]
    served_by: list[str]


class Model(ModelSizes):
    """What a model's headers and small files tell of it; null is what they do not tell."""

    object: Literal["model"]
    source: str
    model_type: str | None
    hidden_size: int
    vocabulary_size: int
    context_length: int | None
    tied_embeddings: bool
    experts: int | None
    experts_per_token: int | None
    tokenizer: Tokenizer
    has_chat_template: bool
    licence: str | None
    recipes: list[RecipeFit]


class Page(TypedDict, Generic[T]):
    """One page of a list."""

    object: Literal["list"]
    data: list[T]
    has_more: bool


class SubmitOptions(TypedDict, total=False):
    """What may be said beside source and recipe; what is absent is left to the server's defaults."""

    domains: Sequence[str]
    windows: int
    tasks: Sequence[str]
    task_items: int
    gate: Sequence[str | Mapping[str, Any]]
    metadata: Mapping[str, str]
    labels: Sequence[str]
    priority: int
    max_runtime_seconds: int
    max_pending_seconds: int
    max_attempts: int
    wait_for_capacity: bool
    publish_to: str
    benchmark: BenchmarkWanted


def is_over(job: Job) -> bool:
    """Return whether the job has reached a state that it will never leave."""
    return job["status"] in OVER
