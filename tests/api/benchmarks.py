"""A benchmark, as its step leaves it."""

from typing import Any

ASKED: dict[str, Any] = {"context_tokens": [512, 1024], "batch_sizes": [4], "generated_tokens": 8, "repeats": 2}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "min": median / 2, "max": median * 2}


MEASURED: dict[str, Any] = {
    "device": "cpu",
    "runtime": "llama.cpp (llama-cpp-python 0.3.36)",
    "hardware": {"device": "cpu", "cpu": "a processor", "gpu": None, "threads": 8},
    "is_serving_speed": True,
    "note": "llama.cpp itself ran the file.",
    "load_seconds": 1.5,
    "peak_memory_bytes": 900_000_000,
    "peak_vram_bytes": None,
    "points": [
        {
            "context_tokens": length,
            "batch_size": 4,
            "prompt_tokens_per_second": spread(5000.0),
            "generation_tokens_per_second": spread(40.0),
            "time_to_first_token_seconds": spread(0.25),
        }
        for length in (512, 1024)
    ],
}
