"""Copy files, and say how far it is. Refuses to know whose they are."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from core.errors import DoesNotFit
from engines.context import EngineContext, Progress
from pipeline.step_kind import MIB

PIECE_BYTES = 16 * MIB


def copy_files(files: Mapping[str, Path], target: Path, engine: EngineContext, *, what: str, disk: str) -> None:
    """Copy files into a folder, whose own folders are there already.

    Args:
        files: by their names in ``target``.
        target: where they go.
        engine: is told the progress.
        what: what they are together, such as ``model``.
        disk: whose disk ``target`` is on, such as ``worker's scratch disk``.

    Raises:
        DoesNotFit: there is less room on that disk; nothing was copied.
    """
    total_bytes = sum(path.stat().st_size for path in files.values())
    free_bytes = shutil.disk_usage(target).free
    if total_bytes > free_bytes:
        raise DoesNotFit(f"The {what} has {total_bytes / 1e6:,.0f} MB, and the {disk} {free_bytes / 1e6:,.0f} MB free.")
    done_bytes = 0
    for name, path in files.items():
        with path.open("rb") as reader, (target / name).open("wb") as writer:
            while piece := reader.read(PIECE_BYTES):
                writer.write(piece)
                done_bytes += len(piece)
                engine.report(Progress(done_bytes, total_bytes, "bytes", name))
