"""The long-running processes, as data: what `fewbitsd up` starts here is what the manifests start in a cluster."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from core.errors import StartFailed

PROGRAM = "fewbitsd"

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "api": (PROGRAM, "api"),
    "dispatch": (PROGRAM, "dispatch"),
    "rescue": (PROGRAM, "rescue"),
    "worker-cpu": (PROGRAM, "worker", "--pool", "cpu"),
    "worker-gpu": (PROGRAM, "worker", "--pool", "gpu"),
}
MIGRATE: tuple[str, ...] = (PROGRAM, "migrate")
AWAIT_SCHEMA: tuple[str, ...] = (*MIGRATE, "--wait")  # in a cluster: before the processes that cannot do without

STOP_ORDER: tuple[tuple[str, ...], ...] = (
    ("worker-cpu", "worker-gpu"),  # while everything they report to still runs
    ("api", "dispatch", "rescue"),
    ("broker",),
    ("postgres",),
)


def installed_program() -> Path:
    """Return the path of ``fewbitsd``: the one installed beside this Python before any other.

    Raises:
        StartFailed: the program is not installed.
    """
    beside = str(Path(sys.executable).parent)
    program = shutil.which(PROGRAM, path=os.pathsep.join((beside, os.defpath)))
    if program is None:
        raise StartFailed(f"The command {PROGRAM} is not installed in {beside}. Run 'make setup' first.")
    return Path(program)
