"""What this machine offers: its GPUs and memory. Asks the driver, not torch."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

CPU = "cpu"
QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
QUERY_SECONDS = 30
MIB = 1 << 20
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")  # where a container sees its own limit, and a machine has no file


@dataclass(frozen=True)
class Device:
    """Where a child computes: its name as torch says it, and its memory."""

    name: str
    memory_bytes: int


def devices(pool: str) -> list[Device]:
    """Return the devices of a pool's worker: every GPU, or the CPU where there is none or the pool is ``cpu``."""
    gpus = _gpus() if pool == "gpu" else []
    return gpus or [Device(CPU, memory_bytes())]


def memory_bytes() -> int:
    """Return this machine's memory, or what of it this container may use."""
    total = psutil.virtual_memory().total
    try:
        limit = CONTAINER_LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total  # "max" where there is none


def _gpus() -> list[Device]:
    if shutil.which(QUERY[0]) is None:
        return []
    answer = subprocess.run(QUERY, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False)
    if answer.returncode != 0:
        return []
    return [Device(f"cuda:{index}", int(line) * MIB) for index, line in enumerate(answer.stdout.split())]
