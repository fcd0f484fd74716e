"""Jobs in every state that a page can show, brought there by the verbs that the API and the workers use."""

import hashlib
import math
from functools import partial

from core.errors import ChildCrashed
from core.ids import TeamId
from core.manifest import StoredFile
from db import jobs, keys
from db.claim import Claim
from db.jobs import NewJob, PlannedStep
from db.metrics import NewMetric
from db.session import Database
from tests.api.work import Workers

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
STEPS = (
    PlannedStep("fetch", "cpu", (), {}),
    PlannedStep("convert", "cpu", ("fetch",), {}),
    PlannedStep("quantize", "cpu", ("convert",), {}),
    PlannedStep("reference", "gpu", ("quantize",), {}),
    PlannedStep("evaluate", "cpu", ("reference",), {}),
    PlannedStep("verify", "cpu", ("evaluate",), {}),
)


def submit(
    database: Database, key: str, *labels: str, source: str = SOURCE, metadata: dict[str, str] | None = None
) -> str:
    """Submit a job that is verified at the end."""
    new = NewJob(
        source=source,
        method="gguf",
        recipe={"method": "gguf", "type": "Q4_K_M"},
        evaluation={"domains": ["prose", "code"], "windows": 40},
        metadata=metadata or {},
        labels=labels,
        priority=0,
        max_runtime_seconds=None,
        max_pending_seconds=None,
        steps=STEPS,
    )
    team_id: TeamId = database.run(partial(keys.authenticate, key=key))
    return database.run(partial(jobs.submit, team_id=team_id, new=new))


def losses() -> list[NewMetric]:
    """Losses that grow with the depth, with one layer that went wrong."""
    return [
        NewMetric(
            layer,
            f"model.layers.{layer}.{module}",
            {"loss": 0.002 * (number + 1) * math.exp(layer / 9) * (40 if (layer, number) == (11, 3) else 1)},
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


def end_well(work: Workers, quantizing: Claim) -> None:
    """Bring a job that is being quantized to a good end."""
    facts = {"size_bytes": 4_000_000, "bits_per_weight": 5.04, "tensor_types": {"q4_K": 36}}
    work.finish(quantizing, facts, files=[FILE])
    work.do("reference", perplexity={"prose": 23.686, "code": 7.493})
    work.do("evaluate", perplexity={"prose": 24.405, "code": 7.666})
    work.do("verify", {"checks": CHECKS})


def end_badly(work: Workers) -> None:
    """Bring a job to a bad end at its first step."""
    taken = work.start("fetch")
    work.log(taken, "\x1b[31mno such folder\x1b[0m\n")
    work.fail(taken, ChildCrashed("The child was killed by SIGKILL: the machine ran out of memory."))
