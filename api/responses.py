"""What a client is sent: the API's objects, as docs and OpenAPI show them."""

import datetime as dt
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.requests import TASK_ITEMS
from api.results import Condition, Result
from api.speed import BenchmarkWanted
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


class Evaluation(BaseModel):
    """On what text and by which tasks the result is judged."""

    domains: list[str]
    windows: int
    tasks: list[str] = []  # which an earlier version has not stored, as the next one
    task_items: int = TASK_ITEMS


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
