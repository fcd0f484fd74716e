"""Jobs in every state that a page can show, brought there by the verbs that the API and the workers use."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from core.errors import ChildCrashed, StoreFailed, ToolFailed, VerificationFailed
from core.ids import TeamId
from core.manifest import StoredFile
from db import jobs, keys
from db.claim import Claim
from db.jobs import NewJob
from db.metrics import NewMetric
from db.session import Database
from engines import methods
from engines.recipe import parse_recipe
from pipeline.plan import plan
from tests.api.work import TAKEN, Workers

SOURCE = "file:///models/tiny-llama-6m"
CONTENT = b"GGUF and what follows"
FILE = StoredFile("model-4bit.gguf", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
MODULES = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
LAYERS = 24
CHECKS = [
    {"name": "loads", "passed": True, "detail": "llama.cpp reads it"},
    {"name": "logits are finite", "passed": True, "detail": ""},
    {"name": "tokenizer is the source's", "passed": True, "detail": "32,000 tokens"},
]
RECIPE = "gguf:Q4_K_M"
EVALUATION = {"domains": ["prose", "code"], "windows": 40}

methods.load()


def new_job(recipe_form: str, gate: Sequence[Mapping[str, Any]] = ()) -> NewJob:
    """A job as the API would have it written."""
    recipe = parse_recipe(recipe_form)
    return NewJob(
        source=SOURCE,
        method=recipe.method.name,
        recipe=recipe.document(),
        evaluation=EVALUATION,
        metadata={},
        labels=(),
        priority=0,
        max_runtime_seconds=None,
        max_pending_seconds=None,
        gate=tuple(gate),
        steps=plan(recipe, {**EVALUATION, "gate": [*gate]}),
    )


def submit(
    database: Database, key: str, *labels: str, source: str = SOURCE, metadata: dict[str, str] | None = None
) -> str:
    """Submit a job as the API does, without its checks."""
    new = replace(new_job(RECIPE), source=source, metadata=metadata or {}, labels=labels)
    team_id: TeamId = database.run(partial(keys.authenticate, key=key))
    return database.run(partial(jobs.submit, team_id=team_id, new=new))


def losses() -> list[NewMetric]:
    """Losses that grow with the depth, with one layer that went wrong."""
    return [
        NewMetric(
            layer,
            f"model.layers.{layer}.{module}",
            {
                "loss": 0.002 * (number + 1) * math.exp(layer / 9) * (40 if (layer, number) == (11, 3) else 1),
                "seconds": 0.5 + number,
            },
        )
        for layer in range(LAYERS)
        for number, module in enumerate(MODULES)
    ]


def begin_quantizing(work: Workers) -> Claim:
    """Bring a job to the middle of its quantization."""
    work.do("fetch", {"model": {"weight_bytes": 12_300_000}})
    work.do("convert")
    taken = work.start("quantize")
    work.log(taken, "".join(f"[{number:4d}/ 291] blk.{number}.attn_q.weight - done\n" for number in range(40)))
    work.measure(taken, *losses())
    work.progress(taken, 4)
    return taken


def begin_anew(work: Workers) -> Claim:
    """Bring a job to the middle of its quantization by attempts that went wrong in every way."""
    work.fail(work.start("fetch"), StoreFailed("The store does not answer."), attempts_max=5, peaks=TAKEN)
    work.lose(work.start("fetch"), attempts_max=5)
    work.release(work.start("fetch"))
    work.do("fetch", {"model": {"weight_bytes": 12_300_000}})
    work.do("convert")
    path = "/var/tmp/fewbits/" + "a-folder-without-any-space/" * 8
    work.fail(work.start("quantize"), ToolFailed(f"llama-quantize could not write {path}."), attempts_max=5)
    taken = work.start("quantize")
    work.progress(taken, 4)
    return taken


def end_well(work: Workers, quantizing: Claim) -> None:
    """Bring a job that is being quantized to a good end."""
    facts = {"size_bytes": 4_000_000, "bits_per_weight": 5.04, "tensor_types": {"q4_K": 36}}
    work.finish(quantizing, facts, files=[FILE])
    work.do("reference", perplexity={"prose": 23.686, "code": 7.493})
    work.do("verify", {"checks": CHECKS})
    work.do("evaluate", perplexity={"prose": 24.405, "code": 7.666})
    work.do("document")


def end_rejected(work: Workers, quantizing: Claim) -> None:
    """Have verification reject what a job has made."""
    work.finish(quantizing, {"size_bytes": 4_000_000}, files=[FILE])
    work.do("reference", perplexity={"prose": 23.686, "code": 7.493})
    work.fail(work.start("verify"), VerificationFailed("tokenizer: The source's chat template is lost."))


def end_badly(work: Workers) -> None:
    """Bring a job to a bad end at its first step."""
    taken = work.start("fetch")
    work.log(taken, "\x1b[31mno such folder\x1b[0m\n")
    work.fail(taken, ChildCrashed("The child was killed by SIGKILL: the machine ran out of memory."))
