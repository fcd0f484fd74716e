"""What a client is sent: the API's objects, as docs and OpenAPI show them."""

import datetime as dt
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.speed import Benchmark, BenchmarkWanted, ServingMemory
from core.dataset_kinds import DatasetKind
from db.states import AttemptOutcome, JobStatus, StepStatus
from db.states import Quota as QuotaName


class JobError(BaseModel):
    """Why a job or a step failed, and what to do."""

    code: str
    message: str
    param: str | None


class Progress(BaseModel):
    """How far a running step is."""

    done: float
    total: float | None
    unit: str
    message: str
    seconds_left: float | None = Field(
        default=None, description="Seconds that the rest will take, as of this report; null where that cannot be said"
    )


class Step(BaseModel):
    """One stage of one job."""

    id: str
    kind: str
    status: StepStatus
    pool: str
    attempt: int
    reused: bool = Field(description="Whether the work had been done before, for another job of the team")
    progress: Progress | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    error: JobError | None


class Estimate(BaseModel):
    """A figure with its 95 % interval."""

    value: float
    low: float | None = Field(description="Null where there was too little text to tell, as the next one")
    high: float | None


class Comparison(BaseModel):
    """The result and full precision on the same tokens of one text."""

    items: int = Field(description="How many windows were looked at")
    tokens: int = Field(description="How many tokens of them were scored")
    baseline_perplexity: float = Field(description="What full precision scores on the same windows")
    perplexity: float
    perplexity_ratio: Estimate | None = Field(description="By full precision's: 1 where nothing is lost")
    kl_divergence: Estimate | None = Field(description="From full precision, the mean over all tokens, in nats")
    kl_divergence_p99: Estimate | None = Field(description="What 99 of 100 tokens stay below")
    agreement: Estimate | None = Field(description="The part of the tokens for which both find the same one likeliest")


class Condition(BaseModel):
    """What a result must meet."""

    metric: str
    domain: str | None = Field(description="The text on which it is measured; null for each")
    max: float | None
    min: float | None
    short: str = Field(description="In short form, as a request may name it")


class GateOutcome(Condition):
    """What became of one condition on one text."""

    measured: Estimate | None = Field(description="With the interval on which it was decided, which is wider than 95 %")
    decision: Literal["passed", "blocked", "undecided"] = Field(description="What is undecided counts as blocked")


class Baseline(BaseModel):
    """What full precision scores."""

    perplexity: dict[str, float]


class Check(BaseModel):
    """One thing that verification looked at."""

    name: str
    passed: bool
    detail: str


class Runtime(BaseModel):
    """That one runtime serves such files, or that it does not: as its sources say, and not tried here.

    A runtime is listed once more where another of its kernels serves them on other GPUs.
    """

    runtime: str
    version: str = Field(description="The one whose sources were read")
    serves: bool
    gpus: str | None = Field(description="On what it serves them; null where it does not")
    how: str | None = Field(description="By what it serves them; null where it does not")
    why_not: str | None = Field(description="Null where it serves them")
    sources: list[str]


class Calibration(BaseModel):
    """What a method looked at."""

    text: str = Field(description="Its name, or its id where it is one of the team's own")
    text_sha256: str
    samples: int
    tokens: int = Field(description="Length of each sample")
    sha256: str = Field(description="Of all samples, in order")
    unknown_share: float = Field(description="Which part of the tokens the tokenizer does not know")
    overlap: dict[str, float] = Field(description="Which part of each text that is judged on is in the samples, too")
    warnings: list[str]


class Result(BaseModel):
    """What is known so far; each field is null until its step has finished."""

    size_bytes: int | None
    bits_per_weight: float | None
    tensor_types: dict[str, int] | None = Field(description="Tensors of each storage type, as really written")
    source_size_bytes: int | None
    calibration: Calibration | None = Field(description="Null, too, where the method looks at no text")
    baseline: Baseline | None
    perplexity: dict[str, float] | None
    comparison: dict[str, Comparison] | None = Field(description="By text, what was lost against full precision")
    gate: list[GateOutcome] | None = Field(description="What became of the gate's conditions on each text")
    looks: int | None = Field(description="How often the gate looked, each time at twice as much text")
    verification: list[Check] | None = Field(description="What was looked at before the result was published")
    runtimes: list[Runtime] | None = Field(
        description="Which runtimes can serve the result, and which cannot; told where one job is read"
    )
    serving_memory: list[ServingMemory] | None = Field(
        description="At usual contexts, and at the longest that the model can read; told where one job is read"
    )
    benchmark: Benchmark | None = Field(description="Null, too, where none was asked for")
    seconds: float | None


class Evaluation(BaseModel):
    """On what text the result is judged."""

    domains: list[str]
    windows: int


class Job(BaseModel):
    """One recipe on one source, with its evaluation."""

    id: str
    object: Literal["job"] = "job"
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    status: JobStatus
    source: str
    method: str
    recipe: str = Field(description="In short form")
    parameters: dict[str, Any]
    evaluation: Evaluation
    gate: list[Condition]
    verdict: Literal["passed", "blocked"] | None = Field(
        description="Of the gate; null where there is none, and before it is decided. What is blocked is not published"
    )
    benchmark: BenchmarkWanted | None = Field(description="Null where the result's speed is not measured")
    priority: int
    metadata: dict[str, str]
    labels: list[str]
    retry_of: str | None = Field(description="The job that this one asks for again")
    sweep: str | None = Field(description="The sweep that it is part of")
    max_runtime_seconds: int | None
    max_pending_seconds: int | None
    max_attempts: int | None = Field(description="Null where the operator's default holds")
    wait_for_capacity: bool
    publish_to: str | None = Field(description="Where the result goes; null where it stays in the store alone")
    published: bool = Field(description="Whether it is there")
    waits_for: list[str] = Field(
        description="What keeps steps that are ready from being run, but for their turn; told where one job is read"
    )
    error: JobError | None
    steps: list[Step]
    result: Result | None


class Event(BaseModel):
    """Something that happened to a job; numbered from 1 within it, without gaps."""

    id: int
    object: Literal["job.event"] = "job.event"
    created_at: dt.datetime
    level: Literal["info", "warn", "error"]
    type: Literal["message", "metrics", "state"]
    message: str
    data: dict[str, Any]


class LogChunk(BaseModel):
    """A piece of what a step printed, at most 64 KiB."""

    id: int
    object: Literal["job.log"] = "job.log"
    step: str
    attempt: int
    created_at: dt.datetime
    text: str


class Metric(BaseModel):
    """What a step measured of one module of one layer while it worked."""

    id: int
    object: Literal["job.metric"] = "job.metric"
    step: str
    attempt: int
    layer: int
    module: str
    values: dict[str, float] = Field(examples=[{"loss": 0.0123}])
    created_at: dt.datetime


class Attempt(BaseModel):
    """One try of a step's work; the work may be another job's, too."""

    object: Literal["job.attempt"] = "job.attempt"
    step: str
    number: int
    host: str = Field(description="The machine of the worker")
    device: str
    started_at: dt.datetime
    ended_at: dt.datetime | None
    outcome: AttemptOutcome | None = Field(description="Null while it runs")
    error: JobError | None
    forecast_memory_bytes: int | None = Field(description="What was kept free for it of the worker's main memory")
    forecast_vram_bytes: int | None = Field(
        description="Of a GPU; where there is none it is main memory, too, and 0 here"
    )
    forecast_scratch_bytes: int | None = Field(description="Of the worker's scratch disk")
    peak_memory_bytes: int | None = Field(description="The most memory that its process took, where that was measured")
    peak_vram_bytes: int | None = Field(description="The most that torch took of a GPU; null if none or it was killed")
    peak_scratch_bytes: int | None = Field(description="The most that its folder took of the scratch disk")


class Quota(BaseModel):
    """One limit of the team, and how much of it is used."""

    object: Literal["quota"] = "quota"
    name: QuotaName
    used: int
    maximum: int | None = Field(description="Null where there is no limit")


class ArtifactFile(BaseModel):
    """One file of an artifact."""

    name: str
    size_bytes: int
    sha256: str


class Artifact(BaseModel):
    """An immutable set of files."""

    id: str
    object: Literal["artifact"] = "artifact"
    created_at: dt.datetime
    format: str
    digest: str = Field(description="sha256: and the SHA-256 of the manifest")
    size_bytes: int
    files: list[ArtifactFile]


class Dataset(BaseModel):
    """A dataset that the team has uploaded."""

    id: str
    object: Literal["dataset"] = "dataset"
    created_at: dt.datetime
    name: str
    kind: DatasetKind
    sha256: str = Field(description="Of its bytes: what is judged on a dataset is judged on these")
    size_bytes: int
    documents: int = Field(description="Items: lines that are not blank; 1 for plain text")


class DeletedDataset(BaseModel):
    """A dataset that is not there any more."""

    id: str
    object: Literal["dataset"] = "dataset"
    deleted: Literal[True] = True


class Preset(BaseModel):
    """A recipe that many would choose."""

    recipe: str = Field(description="In short form")
    parameters: dict[str, Any]
    why: str


class Method(BaseModel):
    """A way to quantize."""

    name: str
    object: Literal["method"] = "method"
    summary: str
    pool: str
    engine: str = Field(description="The library that does the work, with the default parameters")
    format: str = Field(description="What is written, with the default parameters")
    needs_calibration: bool = Field(description="Whether the default parameters have it look at text")
    default: str = Field(description="The recipe that the bare name stands for, in short form")
    presets: list[Preset]
    parameters: dict[str, Any] = Field(description="JSON Schema")


class ModelSizes(BaseModel):
    """What the headers of a model say."""

    architecture: str
    parameter_count: int = Field(description="Numbers in all stored tensors")
    size_bytes: int = Field(description="Of all stored tensors")
    dtype: str = Field(description="That of most of the weights")
    layer_count: int


class Health(BaseModel):
    """That the process answers, or that it is ready to work."""

    status: Literal["ok"] = "ok"
