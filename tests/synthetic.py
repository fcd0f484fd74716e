"""A method that does what a test asks of it, in a real child. Registered through FEWBITS_METHOD_MODULES."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from core.errors import DoesNotFit
from engines.context import EngineContext, Measurement, Progress
from engines.methods.base import Forecast, Method, MethodParams, register
from engines.source import ModelFacts
from workers.protocol import MESSAGES_FD

MODULE = "tests.synthetic"

Act = Literal["nothing", "crash", "exit", "garble", "chatter", "full", "raise", "no_output", "link", "measure"]


class SyntheticParams(MethodParams):
    """Where to say that the work has begun, what to do then, and what to wait for before the end."""

    label: str = ""
    begun: str | None = None
    act: Act = "nothing"
    until: str | None = None


class SyntheticMethod(Method):
    """Writes a small file that says what the child could see."""

    name = "synthetic"
    summary = "For tests."
    Params = SyntheticParams
    pool = "cpu"
    engine = "synthetic 1"
    reads = "snapshot"
    writes = "gguf"
    needs_calibration = False

    def parse_short(self, text: str) -> dict[str, Any]:
        return {"label": text}

    def short(self, params: Any) -> str:
        return f"synthetic:{params.label}"

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        return Forecast(memory_bytes=1, scratch_bytes=1)

    def quantize(self, context: EngineContext, source: Path, params: SyntheticParams) -> Mapping[str, Any]:
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        if params.begun is not None:
            Path(params.begun).write_text(json.dumps({"child": os.getpid(), "grandchild": grandchild.pid}))
        context.report(Progress(1, 2, "halves"))
        _act(params.act, context)
        while params.until is not None and not Path(params.until).exists():
            time.sleep(0.02)
        if params.act != "no_output":
            seen = {"environment": dict(os.environ), "files": sorted(path.name for path in source.iterdir())}
            (context.output / "seen.json").write_text(json.dumps(seen))
        return {"size_bytes": 1, "bits_per_weight": 1.0, "tensor_types": {}}


def _act(act: Act, context: EngineContext) -> None:
    if act == "crash":
        os.abort()
    if act == "exit":
        os._exit(7)
    if act == "garble":
        os.write(MESSAGES_FD, b"\xff{]\n")
    if act == "chatter":
        sys.stdout.write("€" * 100_000 + "\n\0 and no newline at the end")
        sys.stdout.flush()
    if act == "full":
        raise DoesNotFit("no room")
    if act == "raise":
        raise ZeroDivisionError("a bug")
    if act == "measure":
        context.measure(Measurement(3, "mlp.up_proj", {"loss": 0.5}))
    if act == "link":
        (context.output / "link").symlink_to("/etc/passwd")


register(SyntheticMethod())
