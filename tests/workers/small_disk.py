"""A disk on which as much is free as a test says. A worker loads it by FEWBITS_METHOD_MODULES; children do not care."""

import os
import shutil
from pathlib import Path

MODULE = "tests.workers.small_disk"
FREE_BYTES_FILE = "FREE_BYTES_FILE"

_usage = shutil.disk_usage


def _usage_as_told(path: Path) -> "shutil._ntuple_diskusage":
    return _usage(path)._replace(free=int(Path(os.environ[FREE_BYTES_FILE]).read_text()))


if FREE_BYTES_FILE in os.environ:
    shutil.disk_usage = _usage_as_told  # type: ignore[assignment]
