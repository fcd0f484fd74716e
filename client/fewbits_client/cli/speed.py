"""How fast a result is, and what serving it takes, as `show` prints it."""

from collections.abc import Sequence

import click

from fewbits_client.cli.output import table
from fewbits_client.cli.wording import one_line, size
from fewbits_client.results import Benchmark, BenchmarkPoint, ServingMemory, Spread


def show_serving_memory(needed: Sequence[ServingMemory]) -> None:
    """Print what serving takes at each context length."""
    rows = [
        [
            f"{one['context_tokens']:,}",
            str(one["batch_size"]),
            size(one["weight_bytes"]),
            size(one["kv_cache_bytes"]),
            size(one["weight_bytes"] + one["kv_cache_bytes"]),
        ]
        for one in needed
    ]
    table(["to serve a context of", "batch", "weights", "keys and values", "at least"], rows)


def show_benchmark(measured: Benchmark) -> None:
    """Print medians with their spread, and what they were measured on and by."""
    columns = ["context", "batch", "prompt tokens/s", "generated tokens/s", "first token after (ms)"]
    table(columns, [_row(point) for point in measured["points"]])
    hardware = measured["hardware"]
    on = f"{hardware['cpu']}, {hardware['threads']} threads" if hardware["gpu"] is None else hardware["gpu"]
    click.echo(f"measured alone on {one_line(on)}, by {one_line(measured['runtime'])}")
    click.echo(one_line(measured["note"]))
    vram = measured["peak_vram_bytes"]
    took = f"{size(measured['peak_memory_bytes'])} of memory" + (f", {size(vram)} of GPU memory" if vram else "")
    click.echo(f"loaded in {measured['load_seconds']:.1f} s; took {took}")


def _row(point: BenchmarkPoint) -> list[str]:
    return [
        f"{point['context_tokens']:,}",
        str(point["batch_size"]),
        _spread(point["prompt_tokens_per_second"]),
        _spread(point["generation_tokens_per_second"]),
        _spread(point["time_to_first_token_seconds"], 1000),
    ]


def _spread(spread: Spread, factor: int = 1) -> str:
    """Return the median, with the least and the most in brackets."""
    found = spread["median"], spread["min"], spread["max"]
    median, least, most = (f"{factor * value:,.1f}" for value in found)
    return median if least == most else f"{median} ({least} to {most})"
