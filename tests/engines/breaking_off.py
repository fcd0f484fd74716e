"""A quantization in a process of its own that is broken off: told to leave, or killed in the middle of a layer.

``python -m tests.engines.breaking_off SPEC``, which ``break_off`` starts. What it has saved lies beside its checkpoint,
as a worker's child puts it aside.
"""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import methods
from engines.context import EngineContext, Progress, Suspended
from engines.methods.base import Material
from engines.recipe import parse_recipe
from tests.engines.conftest import context_in

SAVED = "saved"


@dataclass(frozen=True)
class Break:
    """When a quantization ends early.

    Attributes:
        leaves_after: layers, after which it is told to leave; 0 where it is not.
        dies_at: how far in a layer it kills itself, counted in layers; 0 where it does not.
    """

    leaves_after: int = 0
    dies_at: float = 0


def break_off(
    recipe: Mapping[str, Any], material: Mapping[Material, Path], folder: Path, when: Break, device: str = "cpu"
) -> Path:
    """Begin a recipe in an empty folder, end it early, and return the folder with what it had saved last."""
    spec = {
        "recipe": recipe,
        "material": {name: str(path) for name, path in material.items()},
        "folder": str(folder),
        "device": device,
        **dataclasses.asdict(when),
    }
    command = [sys.executable, "-m", "tests.engines.breaking_off", json.dumps(spec)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == (-signal.SIGKILL if when.dies_at else 0), ended.stderr
    return folder / SAVED


def watched(context: EngineContext, when: Break) -> EngineContext:
    """Return a context that puts aside what is saved, and breaks its work off."""
    asked = 0

    def must_leave() -> bool:
        nonlocal asked
        asked += 1
        return asked == when.leaves_after

    def save() -> None:
        saved = context.output.parent / SAVED
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(context.checkpoint, saved, copy_function=os.link)

    def report(progress: Progress) -> None:
        context.report(progress)
        if 0 < when.dies_at <= progress.done:
            os.kill(os.getpid(), signal.SIGKILL)

    return dataclasses.replace(context, must_leave=must_leave, save=save, report=report)


def main() -> None:
    """Do what the specification on the command line says."""
    spec = json.loads(sys.argv[1])
    methods.load()
    recipe = parse_recipe(spec["recipe"])
    when = Break(spec["leaves_after"], spec["dies_at"])
    context = watched(context_in(Path(spec["folder"]), device=spec["device"]), when)
    material = {name: Path(path) for name, path in spec["material"].items()}
    try:
        recipe.method.quantize(context, material, recipe.params)
    except Suspended:
        os._exit(0)  # threads of the library may stay behind


if __name__ == "__main__":
    main()
