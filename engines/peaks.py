"""What this process takes of memory, and the most that it has taken, of the host's and of a GPU's."""

import contextlib
import sys
from pathlib import Path

import psutil

STATUS = Path("/proc/self/status")
KIB = 1 << 10


def peak_memory_bytes() -> int | None:
    """Return the most memory that this process has taken since its program began; None where the system cannot say."""
    with contextlib.suppress(OSError):
        for line in STATUS.read_text().splitlines():
            name, _, amount = line.partition(":")
            if name == "VmHWM":
                return int(amount.split()[0]) * KIB
    return None


def peak_vram_bytes() -> int | None:
    """Return the most that torch has held of one GPU's memory in this process; None if it used none or cannot say."""
    return _most_of_a_gpu("max_memory_allocated")


def held_bytes() -> dict[str, float]:
    """Return what this process takes now: ``memory_bytes``, and ``vram_bytes`` where torch holds some of a GPU."""
    held = {"memory_bytes": float(psutil.Process().memory_info().rss)}
    vram_bytes = _most_of_a_gpu("memory_allocated")
    return held if vram_bytes is None else {**held, "vram_bytes": float(vram_bytes)}


def _most_of_a_gpu(amount: str) -> int | None:
    """Return the largest of what a function of ``torch.cuda`` says of each GPU; None if none is used or it fails."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    # What CUDA has once answered with an error it may answer so again, to whatever is asked.
    with contextlib.suppress(RuntimeError):
        return max(int(getattr(torch.cuda, amount)(index)) for index in range(torch.cuda.device_count()))
    return None
