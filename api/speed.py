"""What a client is told of how fast a result is, and of what serving it takes: the API's objects."""

from pydantic import BaseModel, Field


class BenchmarkWanted(BaseModel):
    """How the result's speed is measured."""

    context_tokens: list[int]
    batch_sizes: list[int]
    generated_tokens: int
    repeats: int


class Spread(BaseModel):
    """What repeats came to."""

    median: float
    min: float
    max: float


class BenchmarkPoint(BaseModel):
    """What was measured at one context length and batch size."""

    context_tokens: int = Field(description="Length of each prompt")
    batch_size: int = Field(description="How many prompts were read, and gone on with, at once")
    prompt_tokens_per_second: Spread = Field(description="Of all prompts together")
    generation_tokens_per_second: Spread = Field(description="Of all sequences together, behind their prompts")
    time_to_first_token_seconds: Spread


class BenchmarkHardware(BaseModel):
    """What it was measured on."""

    device: str = Field(description="cpu, or cuda: and a number")
    cpu: str
    gpu: str | None
    threads: int = Field(description="Of the CPU, that were used")


class Benchmark(BaseModel):
    """How fast the result is; to be compared only with what the same runtime did on the same hardware."""

    runtime: str = Field(description="What ran it, with its version")
    hardware: BenchmarkHardware
    is_serving_speed: bool = Field(description="Whether a server that uses this runtime is as fast")
    note: str = Field(description="What to know of that")
    load_seconds: float
    peak_memory_bytes: int | None
    peak_vram_bytes: int | None = Field(description="Null where no GPU was used")
    points: list[BenchmarkPoint]


class ServingMemory(BaseModel):
    """What serving the result takes at least: a server needs some more for itself."""

    context_tokens: int = Field(description="How long each sequence may become")
    batch_size: int = Field(description="How many sequences are served at once")
    weight_bytes: int
    kv_cache_bytes: int = Field(description="Of keys and values in 16 bits, of all layers and positions")
