"""What is on record of the steps of a job that has gone through, as Postgres has it, for a GGUF and a GPTQ result."""

from typing import Any

from core.manifest import StoredFile
from core.steps import Done, UnboundStep
from engines import methods
from engines.recipe import parse_recipe
from pipeline.plan import plan

EVALUATION: dict[str, Any] = {"domains": ["prose", "code"], "windows": 40}
BENCHMARK: dict[str, Any] = {"context_tokens": [512], "batch_sizes": [4], "generated_tokens": 8, "repeats": 2}
MODEL = {
    "architecture": "LlamaForCausalLM",
    "parameter_count": 6_162_688,
    "weight_bytes": 12_325_376,
    "dtype": "bfloat16",
    "hidden_size": 256,
    "row_lengths": [256, 768],
    "layer_count": 6,
    "vocabulary_size": 4096,
}
CARD = {"licenses": ["apache-2.0"], "license_name": None, "license_link": None, "pipeline_tag": "text-generation"}
CHECKS = [{"name": "loads", "passed": True, "detail": "It loads, and all its answers are finite."}]
LOSSES = [{"layer": 0, "module": "mlp.up_proj", "loss": 0.25}]
MADE_WITH = {
    "engine": "an engine 1.2",
    "libraries": {"torch": "2.13.0", "python": "3.11.9"},
    "hardware": {"device": "cuda:0", "cpu": "a processor", "gpu": "a GPU"},
    "losses": LOSSES,
    "engine_seconds": 12.5,
}
CALIBRATED = {
    "text": "mixed",
    "text_sha256": "7" * 64,
    "samples": 128,
    "tokens": 512,
    "sha256": "8" * 64,
    "unknown_share": 0.0,
    "overlap": {},
    "warnings": [],
}
MEASURES = {
    "evaluate": {
        "perplexity_ratio": {"value": 1.0304, "low": 1.0251, "high": 1.0359},
        "kl_divergence": {"value": 0.0321, "low": 0.0302, "high": 0.0344},
        "kl_divergence_p99": {"value": 0.41, "low": 0.38, "high": 0.46},
        "agreement": {"value": 0.921, "low": 0.914, "high": 0.928},
    }
}
TASK = "dataset_" + "1" * 26
JUDGED_BY_TASK: dict[str, Any] = {
    **EVALUATION,
    "tasks": [TASK],
    "task_items": 200,
    "datasets": {TASK: {"kind": "reference", "sha256": "e" * 64, "size_bytes": 7}},
    "gate": [{"metric": "accuracy_drop", "task": None, "max": 0.01}],
}
DROP = {"value": 0.021, "low": 0.012, "high": 0.03}
IN_TASK: dict[str, Any] = {
    "tasks": {
        TASK: {
            "items": 180,
            "baseline": {"accuracy": 0.731, "rouge_l": 0.852},
            "measures": {
                "accuracy": {"value": 0.71, "low": 0.64, "high": 0.77},
                "accuracy_drop": DROP,
                "rouge_l": {"value": 0.841, "low": 0.82, "high": 0.86},
                "rouge_l_drop": {"value": 0.011, "low": 0.002, "high": 0.02},
            },
        }
    },
    "verdict": "blocked",
    "gate": [
        {
            "metric": "accuracy_drop",
            "domain": None,
            "task": TASK,
            "max": 0.01,
            "min": None,
            "measured": DROP,
            "decision": "blocked",
        }
    ],
}
WRITTEN = {"size_bytes": 4_012_640, "bits_per_weight": 5.04, "tensor_types": {"q6_K": 6, "f32": 13}}

methods.load()


def done(facts: dict[str, Any] | None = None, *files: str, scores: dict[str, Any] | None = None) -> Done:
    forecast = {"memory_bytes": 10, "vram_bytes": 20, "scratch_bytes": 30}
    made = [StoredFile(name, "a" * 64, 7) for name in files]
    peak = {"memory_bytes": 5, "vram_bytes": 3 * 10**9, "scratch_bytes": None}
    return Done(facts or {}, "d" * 64 if files else None, made, scores or {}, forecast, peak)


def documenting(
    recipe: str | dict[str, Any],
    *files: str,
    source: str = "file:///models/llama",
    evaluation: dict[str, Any] = EVALUATION,
    **changes: Done,
) -> UnboundStep:
    """Return the step that documents a result of these files; ``changes`` are of the record, by kind of step."""
    benchmark = BENCHMARK if "benchmark" in changes else None
    steps = plan(parse_recipe(recipe), evaluation, benchmark=benchmark)
    planned = next(step for step in steps if step.kind == "document")
    scores = {
        kind: {
            domain: {"perplexity": value, "windows": 40, "tokens": 10_200, "measures": MEASURES.get(kind)}
            for domain, value in by_domain.items()
        }
        for kind, by_domain in {"reference": {"prose": 23.686, "code": 7.5}, "evaluate": {"prose": 24.405}}.items()
    }
    record = {
        "fetch": done({"model": MODEL, "card": CARD}, "config.json", "model.safetensors"),
        "convert": done({}, "model.gguf"),
        "calibrate": done(CALIBRATED, "samples.safetensors"),
        "quantize": done({**WRITTEN, **MADE_WITH}, *files),
        "reference": done({"device": "cpu"}, "probe.json", scores=scores["reference"]),
        "verify": done({"checks": CHECKS}),
        "evaluate": done({"device": "cpu"}, scores=scores["evaluate"]),
    }
    record = {kind: one for kind, one in record.items() if kind in planned.needs}
    return UnboundStep(
        "step_1", "job_1", "team_1", "document", "cpu", source, planned.params, {}, {**record, **changes}
    )


def judged_by_a_task(recipe: str = "gguf:Q4_K_M", *files: str) -> UnboundStep:
    """Return the step that documents a result which was judged by a task, and blocked for what it lost in it."""
    evaluated = done({"device": "cpu", **IN_TASK}, scores=dict(documenting("gguf").done["evaluate"].scores))
    return documenting(recipe, *(files or ("model.gguf",)), evaluation=JUDGED_BY_TASK, evaluate=evaluated)
