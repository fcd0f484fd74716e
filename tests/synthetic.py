"""A method that does what a test asks of it, in a real child. Registered through FEWBITS_METHOD_MODULES."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

from core.errors import DoesNotFit
from engines.context import EngineContext, Measurement, Progress, Suspended
from engines.methods.base import Forecast, Format, Material, Method, MethodParams, register
from engines.model_facts import ModelFacts
from workers.protocol import MESSAGES_FD

MODULE = "tests.synthetic"

PIECES = "pieces"  # of the checkpoint: how many are done
LAST_PIECE = "layers/last"
FILE_BYTES = 1 << 20
VRAM_BYTES = (3 << 30, 5 << 30)  # what a child has held of each GPU, where it says that one is full

Act = Literal[
    "nothing",
    "linger",
    "crash",
    "exit",
    "garble",
    "chatter",
    "full",
    "gpu_full",
    "files",
    "raise",
    "no_output",
    "link",
    "card",
    "measure",
    "save",
    "stay",
]


class SyntheticParams(MethodParams):
    """Where to say that the work has begun, what to do then, and what to wait for before the end.

    To ``save`` is to leave when told, with a checkpoint; to ``stay`` is to hear of it and go on.
    """

    label: str = ""
    begun: str | None = None
    act: Act = "nothing"
    until: str | None = None


class FakeCuda:
    """What this process asks of torch, on a machine with GPUs."""

    is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: len(VRAM_BYTES))
    max_memory_allocated = staticmethod(lambda index: VRAM_BYTES[index])


class SyntheticMethod(Method):
    """Writes a small file that says what the child could see."""

    name = "synthetic"
    summary = "For tests."
    Params = SyntheticParams
    pool: ClassVar[Literal["cpu", "gpu"]] = "cpu"

    def engine(self, params: Any) -> str:
        return "synthetic 1"

    def material(self, params: Any) -> Mapping[Material, Mapping[str, Any]]:
        return {"snapshot": {}}

    def writes(self, params: Any) -> Format:
        return "gguf"

    def parse_short(self, text: str) -> dict[str, Any]:
        return {"label": text}

    def short(self, params: Any) -> str:
        return f"synthetic:{params.label}"

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        return Forecast(memory_bytes=1, scratch_bytes=1)

    def quantize(
        self, context: EngineContext, material: Mapping[Material, Path], params: SyntheticParams
    ) -> Mapping[str, Any]:
        found = _files(context.checkpoint)
        if params.act in ("save", "stay"):
            context.must_leave()  # from now on SIGTERM does not end this process
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        if params.begun is not None:
            Path(params.begun).write_text(json.dumps({"child": os.getpid(), "grandchild": grandchild.pid}))
        context.report(Progress(1, 2, "halves"))
        _act(params.act, context)
        first = int(found.get(PIECES, 0))
        _work(params, context, first)
        if params.act != "no_output":
            seen = {
                "environment": dict(os.environ),
                "files": sorted(path.name for path in material["snapshot"].iterdir()),
                "checkpoint": found,
                "first_piece": first,
            }
            (context.output / "seen.json").write_text(json.dumps(seen))
        return {"size_bytes": 1, "bits_per_weight": 1.0, "tensor_types": {}}


def _work(params: SyntheticParams, context: EngineContext, piece: int) -> None:
    """Do one piece after the other until there is no need for more."""
    while params.until is not None and not Path(params.until).exists():
        time.sleep(0.02)
        piece += 1
        if params.act == "save" and context.must_leave():
            (context.checkpoint / PIECES).write_text(str(piece))
            last = context.checkpoint / LAST_PIECE
            last.parent.mkdir(exist_ok=True)
            last.write_text(f"of {os.getpid()}")
            context.save()
            raise Suspended


def _files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def _act(act: Act, context: EngineContext) -> None:
    if act == "linger":
        threading.Thread(target=time.sleep, args=[600]).start()
    if act == "crash":
        os.abort()
    if act == "exit":
        os._exit(7)
    if act == "garble":
        os.write(MESSAGES_FD, b"\xff{]\n")
    if act == "chatter":
        sys.stdout.write("€" * 100_000 + "\n\0 and no newline at the end")
        sys.stdout.flush()
    if act in ("full", "gpu_full", "raise"):
        _fail(act)
    if act == "measure":
        context.measure(Measurement(3, "mlp.up_proj", {"loss": 0.5}))
    if act in ("card", "link", "files"):
        _leave(act, context)


def _fail(act: Act) -> None:
    if act == "gpu_full":
        sys.modules["torch"] = ModuleType("torch")
        setattr(sys.modules["torch"], "cuda", FakeCuda)  # noqa: B010 - mypy knows no such attribute
    if act == "raise":
        raise ZeroDivisionError("a bug")
    raise DoesNotFit("no room")


def _leave(act: Act, context: EngineContext) -> None:
    if act == "card":
        (context.output / "README.md").touch()
    elif act == "link":
        (context.output / "link").symlink_to("/etc/passwd")
    else:
        for folder in (context.output, context.scratch, context.checkpoint):
            (folder / "written").write_bytes(os.urandom(FILE_BYTES))
        os.link(context.scratch / "written", context.output / "linked")
        sys.stdout.write("written\n")
        sys.stdout.flush()


class SyntheticGpuMethod(SyntheticMethod):
    """The same, but no CPU can do it."""

    name = "synthetic-gpu"
    pool = "gpu"

    def forecast(self, facts: ModelFacts, params: Any) -> Forecast:
        return Forecast(memory_bytes=1, scratch_bytes=1, vram_bytes=1, needs_gpu=True)

    def short(self, params: Any) -> str:
        return f"{self.name}:{params.label}"


register(SyntheticMethod())
register(SyntheticGpuMethod())
