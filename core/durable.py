"""What has been written survives a machine that loses its power."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Have the disk keep a file's content, or which names a folder holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
