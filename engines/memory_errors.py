"""Every way in which torch says that memory is full, told as one."""

import contextlib
from collections.abc import Iterator

from core.errors import DoesNotFit


def is_memory_error(error: BaseException) -> bool:
    """Return whether an error says that memory of the host or of a device is full."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU's allocator raises a bare RuntimeError.
    told = str(error)
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in told or "can't allocate memory" in told)


@contextlib.contextmanager
def told_as_not_fitting(what: str, device: str) -> Iterator[None]:
    """Raise ``DoesNotFit`` where memory is full.

    Args:
        what: was going on, such as "the model ran in float32".
        device: where.
    """
    try:
        yield
    except Exception as error:
        if not is_memory_error(error):
            raise
        raise DoesNotFit(f"Memory of {device} ran out while {what}. Use a larger one.") from error
