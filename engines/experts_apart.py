"""Mixtures of experts with a module for each expert, as llm-compressor quantizes them and as its results are read."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engines.loading import load_model


def load_with_experts_apart(folder: Path, dtype: str = "float32", **options: Any) -> Any:
    """Return a model with a module for each expert, though transformers holds all of a layer as one.

    Results of mixtures of experts can be read in no other way either; see ``load_model`` for arguments and errors.
    """
    from llmcompressor.modeling.moe.linearize import load_quantizable_moe

    with _hiding_broken_modules():
        return load_model(folder, dtype, around=load_quantizable_moe, **options)


@contextlib.contextmanager
def _hiding_broken_modules() -> Iterator[None]:
    """Hide the parts of transformers that cannot be imported, for as long as this lasts.

    It looks into all of its parts that have been named when a class of experts is to be replaced, and stumbles over
    those that read images where torchvision is not installed.
    """
    hidden = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("transformers."):
            try:
                dir(module)
            except ImportError:
                hidden[name] = sys.modules.pop(name)
    try:
        yield
    finally:
        sys.modules.update(hidden)
