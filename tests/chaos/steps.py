"""A method whose result says under which lease it was made. Registered through FEWBITS_METHOD_MODULES.

It works in small pieces, prints, measures, keeps a process of its own, goes on where an attempt that had to leave has
stopped, and where it is asked to, it crashes, does not fit, is wrong, or kills its worker.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from core.errors import DoesNotFit, RequestError
from engines.context import EngineContext, Measurement, Progress, Suspended
from engines.methods.base import Forecast, Format, Material, Method, MethodParams, register
from engines.model_facts import ModelFacts

MODULE = "tests.chaos.steps"
METHOD = "chaos"
TESTIMONY = "made-under.json"
CHECKPOINT = "pieces"
LET_GO = "let-go"  # in the folder of poison: the process that it may kill, if that is still its worker
PIECE_SECONDS = 0.1


class ChaosParams(MethodParams):
    """How long to work, how many attempts crash, and how it ends otherwise."""

    label: str = ""
    seconds: float = 1.0
    crashes: int = 0
    act: Literal["work", "too_large", "wrong", "poison"] = "work"


class ChaosMethod(Method):
    """Leaves a file with the name of its own folder, which is that of its lease."""

    name = METHOD
    summary = "For tests."
    Params = ChaosParams
    pool = "cpu"

    def engine(self, params: Any) -> str:
        return "chaos 1"

    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        return {"snapshot": {}}

    def writes(self, params: Any) -> Format:
        return "gguf"

    def parse_short(self, text: str) -> dict[str, Any]:
        return {"label": text}

    def short(self, params: Any) -> str:
        return f"{METHOD}:{params.label}"

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        return Forecast(memory_bytes=1, scratch_bytes=1)

    def quantize(
        self, context: EngineContext, material: Mapping[Material, Path], params: ChaosParams
    ) -> Mapping[str, Any]:
        folder = context.output.parent
        own = folder.name
        subprocess.Popen(["sleep", "600"])  # nothing ends it but the end of the group
        total = max(1, round(params.seconds / PIECE_SECONDS))
        saved = context.checkpoint / CHECKPOINT
        for done in range(int(saved.read_text()) if saved.exists() else 0, total):
            if context.must_leave():
                saved.unlink(missing_ok=True)
                saved.write_text(str(done))
                context.save()
                raise Suspended
            _say(f"{own} {params.label}: {done} of {total}")
            context.report(Progress(done, total, "pieces"))
            context.measure(Measurement(done, "piece", {"seconds": PIECE_SECONDS}))
            if params.act == "poison":
                _kill_worker(folder / LET_GO)
            if done == total // 2:
                _act(params, token=int(own.rpartition("-")[2]))
            time.sleep(PIECE_SECONDS)
        (context.output / TESTIMONY).write_text(json.dumps({"folder": own, "label": params.label}))
        return {"size_bytes": 1, "bits_per_weight": 1.0, "tensor_types": {}}


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _kill_worker(let_go: Path) -> None:
    worker = os.getppid()
    if let_go.exists() and let_go.read_text() == str(worker):
        os.kill(worker, signal.SIGKILL)


def _act(params: ChaosParams, token: int) -> None:
    if token <= params.crashes:
        os.abort()
    if params.act == "too_large":
        raise DoesNotFit("This work fits nowhere, as it was asked to.")
    if params.act == "wrong":
        raise RequestError("This work is wrong, as it was asked to be.")


register(ChaosMethod())
