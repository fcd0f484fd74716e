"""How the measured speed of a result is told, in its model card and in its report."""

from collections.abc import Sequence

from pipeline.figures import room
from pipeline.provenance import Benchmark, BenchmarkPoint, Spread

COLUMNS = (
    "context \N{MULTIPLICATION SIGN} batch",
    "prompt tokens/s",
    "generation tokens/s",
    "first token after, ms",
)
WHOLE_FROM = 1000


def circumstances(found: Benchmark) -> str:
    """Return by what and where the speed was measured, without which its figures say nothing."""
    where = found.hardware.gpu or f"{found.hardware.cpu}, {found.hardware.threads} threads"
    return (
        f"By {found.runtime} on {where}; loaded in {found.load_seconds:.2f} s, "
        f"{room(found.peak_memory_bytes)} of memory at most. {found.note}"
    )


def rows(found: Benchmark) -> Sequence[Sequence[str]]:
    """Return a row of cells for each context length and batch size: medians, with the least and the most."""
    return [
        [
            place(point),
            _spread(point.prompt_tokens_per_second, 1),
            _spread(point.generation_tokens_per_second, 1),
            _spread(point.time_to_first_token_seconds, 1000),
        ]
        for point in found.points
    ]


def place(point: BenchmarkPoint) -> str:
    """Return at which context length and batch size it was."""
    return f"{point.context_tokens} \N{MULTIPLICATION SIGN} {point.batch_size}"


def _spread(found: Spread, scale: float) -> str:
    median, least, most = (_digits(scale * value) for value in (found.median, found.min, found.max))
    return f"{median} ({least} to {most})"


def _digits(value: float) -> str:
    """Return a figure with four digits, or with all that stand before its point."""
    return f"{value:.4g}" if value < WHOLE_FROM else f"{value:,.0f}"
