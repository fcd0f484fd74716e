"""What came of a job, as the API answers it. Each object is a dict."""

from typing import Literal, TypedDict


class Baseline(TypedDict):
    """What full precision scores."""

    perplexity: dict[str, float]


class Check(TypedDict):
    """One thing that verification looked at."""

    name: str
    passed: bool
    detail: str


class Estimate(TypedDict):
    """A figure with its 95 % interval, whose ends are null where there was too little to tell."""

    value: float
    low: float | None
    high: float | None


class Comparison(TypedDict):
    """The result and full precision on the same tokens of one text."""

    items: int
    tokens: int
    baseline_perplexity: float
    perplexity: float
    perplexity_ratio: Estimate | None
    kl_divergence: Estimate | None
    kl_divergence_p99: Estimate | None
    agreement: Estimate | None


class TaskScore(TypedDict):
    """What is scored in a task; `rouge_l` is null where its dataset is not of kind `reference`."""

    accuracy: float
    rouge_l: float | None


class TaskComparison(TypedDict):
    """The result and full precision on the same items of one task."""

    items: int
    baseline: TaskScore
    accuracy: Estimate | None
    accuracy_drop: Estimate | None
    rouge_l: Estimate | None
    rouge_l_drop: Estimate | None


class Condition(TypedDict):
    """What a result must meet, on each text or task where `domain` and `task` are null; `short` says all in a line."""

    metric: str
    domain: str | None
    task: str | None
    max: float | None
    min: float | None
    short: str


class GateOutcome(Condition):
    """What became of a condition on one text or task; `undecided` counts as blocked."""

    measured: Estimate | None
    decision: Literal["passed", "blocked", "undecided"]


class Runtime(TypedDict):
    """That one runtime serves the files, on some GPUs, or why it does not; by its sources, not by a try."""

    runtime: str
    version: str
    serves: bool
    gpus: str | None
    how: str | None
    why_not: str | None
    sources: list[str]


class Calibration(TypedDict):
    """What a method looked at; `text` is the id of one of the team's own, or a name."""

    text: str
    text_sha256: str
    samples: int
    tokens: int
    sha256: str
    unknown_share: float
    overlap: dict[str, float]
    warnings: list[str]


class Spread(TypedDict):
    """What repeats came to."""

    median: float
    min: float
    max: float


class BenchmarkPoint(TypedDict):
    """What was measured at one context length and batch size."""

    context_tokens: int
    batch_size: int
    prompt_tokens_per_second: Spread
    generation_tokens_per_second: Spread
    time_to_first_token_seconds: Spread


class BenchmarkHardware(TypedDict):
    """What it was measured on; `gpu` is null where none was used."""

    device: str
    cpu: str
    gpu: str | None
    threads: int


class Benchmark(TypedDict):
    """How fast the result is, to be compared only with the same runtime on the same hardware."""

    runtime: str
    hardware: BenchmarkHardware
    is_serving_speed: bool
    note: str
    load_seconds: float
    peak_memory_bytes: int | None
    peak_vram_bytes: int | None
    points: list[BenchmarkPoint]


class ServingMemory(TypedDict):
    """What serving the result takes at least, for weights and for keys and values."""

    context_tokens: int
    batch_size: int
    weight_bytes: int
    kv_cache_bytes: int


class Result(TypedDict):
    """What was measured so far; fields are null until their step has finished.

    `runtimes` and `serving_memory` are null in lists, too, and `benchmark` where none was asked for.
    """

    size_bytes: int | None
    bits_per_weight: float | None
    tensor_types: dict[str, int] | None
    source_size_bytes: int | None
    calibration: Calibration | None
    baseline: Baseline | None
    perplexity: dict[str, float] | None
    comparison: dict[str, Comparison] | None
    tasks: dict[str, TaskComparison] | None
    gate: list[GateOutcome] | None
    looks: int | None
    verification: list[Check] | None
    runtimes: list[Runtime] | None
    serving_memory: list[ServingMemory] | None
    benchmark: Benchmark | None
    seconds: float | None
