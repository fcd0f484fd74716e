"""What this process has used of a GPU."""

import sys


def peak_vram_bytes() -> int | None:
    """Return the most that torch has held of one GPU's memory in this process; None where it has used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return max(int(torch.cuda.max_memory_allocated(index)) for index in range(torch.cuda.device_count()))
