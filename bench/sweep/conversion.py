"""``python -m bench.sweep.conversion MODEL FOLDER``: llama.cpp's own converter, in a process of its own."""

import os
import sys
import tempfile
from pathlib import Path

from engines.context import EngineContext
from engines.convert import convert


def main(model: Path, folder: Path) -> None:
    """Write the model's GGUF file into the folder."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        context = EngineContext(
            output=folder,
            scratch=Path(own),
            checkpoint=Path(own),
            work="conversion",
            threads=len(os.sched_getaffinity(0)),
            device="cpu",
            report=lambda _: None,
            measure=lambda _: None,
            recall=lambda _: None,
            save=lambda: None,
            must_leave=lambda: False,
        )
        convert(context, model)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
