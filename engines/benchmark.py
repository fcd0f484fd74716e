"""How fast a model reads and writes, and what it takes of memory: medians of repeats, with their spread.

A point is a context length and a batch size. Each time, prompts of random tokens are read from the beginning, and the
likeliest tokens are added to them one by one. Refuses to know: who else uses the machine meanwhile.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from core.errors import InvalidRequest
from engines.context import EngineContext, Progress
from engines.evaluation_needs import PROCESS_BYTES, host_bytes
from engines.generation import Generator, import_libraries, open_generator
from engines.generation.llama_cpp import COMPUTED_TOKENS
from engines.kv_cache import SERVED_BYTES, kv_cache_bytes
from engines.machine import hardware
from engines.methods.base import Forecast
from engines.model_facts import ModelFacts
from engines.peaks import peak_memory_bytes, peak_vram_bytes
from engines.runtimes import ENGINES, Judged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WARM_UPS = 1
SEED = 0
FLOAT_BYTES = 4
BATCH_MAX = 256  # llama.cpp takes no more sequences at once
TOKENS_MAX = 2**20  # of all sequences of a point
SERVING = "llama.cpp itself ran the file on this machine's CPU, as it serves it there; its speed on a GPU is another."
NOT_SERVING = (
    "Not a serving speed: torch ran the weights unpacked to float32. A server reads them packed, by kernels of its own."
)
FULL_PRECISION = "Not a serving speed: torch ran the weights in float32, and a server runs them in 16 bits."


class Spread(TypedDict):
    """What repeats came to."""

    median: float
    min: float
    max: float


class Point(TypedDict):
    """What was measured at one context length and batch size.

    Attributes:
        context_tokens: length of each prompt.
        batch_size: how many prompts were read and gone on with at once.
        prompt_tokens_per_second: of all prompts together.
        generation_tokens_per_second: of all sequences together, behind their prompts.
        time_to_first_token_seconds: from the prompts to the first token of each.
    """

    context_tokens: int
    batch_size: int
    prompt_tokens_per_second: Spread
    generation_tokens_per_second: Spread
    time_to_first_token_seconds: Spread


class Benchmark(TypedDict):
    """What was measured of a model; to be compared only with what the same runtime did on the same hardware.

    Attributes:
        runtime: what ran it, with its version.
        hardware: ``device``, ``cpu``, ``gpu`` and ``threads``.
        is_serving_speed: whether a server that uses this runtime is as fast.
        note: what to know of that, in a sentence or two.
        load_seconds: from the files to the loaded model, once its libraries were imported.
        peak_memory_bytes: the most that the process took; None where the system cannot say.
        peak_vram_bytes: the most that it took of a GPU; None where it used none.
        points: by context length, then by batch size.
    """

    runtime: str
    hardware: dict[str, Any]
    is_serving_speed: bool
    note: str
    load_seconds: float
    peak_memory_bytes: int | None
    peak_vram_bytes: int | None
    points: list[Point]


@dataclass(frozen=True)
class Wanted:
    """What is to be measured.

    Attributes:
        context_tokens: lengths of prompts.
        batch_sizes: how many prompts at once.
        generated_tokens: how many are added to each prompt.
        repeats: how often each point is measured, after it was gone through once.
    """

    context_tokens: Sequence[int]
    batch_sizes: Sequence[int]
    generated_tokens: int
    repeats: int

    @property
    def points(self) -> list[tuple[int, int]]:
        """Each context length with each batch size."""
        return [(length, count) for length in sorted(self.context_tokens) for count in sorted(self.batch_sizes)]

    @property
    def longest(self) -> int:
        """How long a sequence becomes at most."""
        return max(self.context_tokens) + self.generated_tokens

    def check(self, facts: ModelFacts | None) -> None:
        """Refuse what cannot be measured.

        Args:
            facts: of the model; None where it cannot be seen yet.

        Raises:
            InvalidRequest: the sequences become longer than the model can read, or are too many.
        """
        if facts is not None and facts.position_count and self.longest > facts.position_count:
            room = facts.position_count - self.generated_tokens
            advice = f"Ask for a context of {room} at most" if room > 0 else "Ask for fewer generated tokens"
            raise InvalidRequest(
                f"A context of {max(self.context_tokens)} tokens with {self.generated_tokens} generated ones is longer "
                f"than the {facts.position_count} tokens that this model can read. {advice}.",
                param="benchmark.context_tokens",
            )
        if (tokens := max(self.batch_sizes) * self.longest) > TOKENS_MAX:
            raise InvalidRequest(
                f"{max(self.batch_sizes)} sequences of {self.longest} tokens are {tokens} tokens at once, and "
                f"{TOKENS_MAX} may be asked for. Ask for a smaller batch or a shorter context.",
                param="benchmark.batch_sizes",
            )


def forecast(facts: ModelFacts, written: Judged, result_bytes: int, wanted: Wanted) -> Forecast:
    """Return what benchmarking a result will need, at its largest point.

    Args:
        facts: of the source.
        written: the result's format; what transformers runs is unpacked to float32.
        result_bytes: size of the result.
        wanted: what is measured.
    """
    batch, longest = max(wanted.batch_sizes), max(wanted.context_tokens)
    logits = FLOAT_BYTES * facts.vocabulary_size * 2 * batch
    if written == "gguf":
        activations = FLOAT_BYTES * COMPUTED_TOKENS * (16 * facts.hidden_size + 4 * facts.longest_row)
        cache = kv_cache_bytes(facts, wanted.longest, batch, SERVED_BYTES)
        return Forecast(memory_bytes=PROCESS_BYTES + result_bytes + cache + activations + logits, scratch_bytes=2**20)
    weights = FLOAT_BYTES * facts.parameter_count + facts.weight_bytes // max(facts.layer_count, 1)
    cache = kv_cache_bytes(facts, wanted.longest, batch, FLOAT_BYTES)
    copied = cache // max(facts.layer_count, 1)  # a layer's part is copied as it grows
    # In float32 torch attends by heads that share keys with all scores at once, and their softmax beside them.
    scores = 2 * batch * facts.head_count * longest**2 if 0 < facts.kv_head_count < facts.head_count else 0
    widest = max(4 * batch * longest * facts.longest_row, scores)
    activations = FLOAT_BYTES * (16 * batch * longest * facts.hidden_size + widest)
    vram_bytes = weights + cache + copied + activations + logits
    return Forecast(memory_bytes=host_bytes(facts, batch), vram_bytes=vram_bytes, scratch_bytes=2**20)


def measure(written: Judged, model: Path, context: EngineContext, wanted: Wanted) -> Benchmark:
    """Load a model and measure it.

    Args:
        written: its format, which decides the runtime.
        model: its folder, or for ``gguf`` its file.
        context: threads and device; each pass is reported.
        wanted: what is measured.

    Raises:
        ModelUnsupported: the runtime refuses the model, or it cannot read that many tokens.
        DoesNotFit: memory ran out.
    """
    import_libraries(written)
    began = time.perf_counter()
    with open_generator(written, model, context) as generator:
        load_seconds = time.perf_counter() - began
        points = list(_points(generator, wanted, context.report))
    return Benchmark(
        runtime=ENGINES[written],
        hardware={**hardware(context.device), "threads": context.threads},
        is_serving_speed=written == "gguf",
        note=_NOTES.get(written, NOT_SERVING),
        load_seconds=round(load_seconds, 3),
        peak_memory_bytes=peak_memory_bytes(),
        peak_vram_bytes=peak_vram_bytes(),
        points=points,
    )


_NOTES: Mapping[Judged, str] = {"gguf": SERVING, "safetensors": FULL_PRECISION}


def _points(generator: Generator, wanted: Wanted, report: Callable[[Progress], None]) -> Iterator[Point]:
    import numpy as np

    passes = WARM_UPS + wanted.repeats
    total = passes * len(wanted.points)
    random = np.random.default_rng(SEED)
    for number, (length, count) in enumerate(wanted.points):
        prompts = random.integers(generator.vocabulary_size, size=(count, length), dtype=np.int32)
        what = f"{length} tokens of context, batch of {count}"
        taken = []
        with generator.make_room(count, length + wanted.generated_tokens):
            for one in range(passes):
                report(Progress(number * passes + one, total, "passes", what))
                taken.append(_pass(generator, prompts, wanted.generated_tokens))
        yield _point(prompts.shape, wanted.generated_tokens, taken[WARM_UPS:])
    report(Progress(total, total, "passes"))


def _pass(generator: Generator, prompts: "NDArray[np.int32]", generated_tokens: int) -> tuple[float, float]:
    """Return the seconds until the first token, and those of the tokens after it."""
    began = time.perf_counter()
    tokens = generator.read(prompts)
    first = time.perf_counter()
    for _ in range(generated_tokens):
        tokens = generator.go_on(tokens)
    return first - began, time.perf_counter() - first


def _point(shape: tuple[int, ...], generated_tokens: int, taken: Sequence[tuple[float, float]]) -> Point:
    count, length = shape
    return Point(
        context_tokens=length,
        batch_size=count,
        prompt_tokens_per_second=_spread([count * length / first for first, _ in taken], 2),
        generation_tokens_per_second=_spread([count * generated_tokens / rest for _, rest in taken], 2),
        time_to_first_token_seconds=_spread([first for first, _ in taken], 6),
    )


def _spread(values: Sequence[float], digits: int) -> Spread:
    found = statistics.median(values), min(values), max(values)
    median, least, most = (round(value, digits) for value in found)
    return Spread(median=median, min=least, max=most)
