"""What can be said of a request before anything runs: a look at the source, where it can be seen from here."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from core.errors import RequestError
from engines import source
from engines.checkpoints import matrices
from engines.model_facts import ModelFacts
from engines.recipe import Recipe
from engines.source import weight_tensors
from pipeline.sources import local_folder

KNOWN_MAX = 256  # folders of which what was seen is kept in memory

Seen = tuple[ModelFacts, Mapping[str, tuple[int, int]]]  # facts, and the matrices that could be quantized


def check_model(recipe: Recipe, location: str, roots: tuple[Path, ...]) -> ModelFacts | None:
    """Refuse a recipe that does not go with its source, by the source's headers alone, and return what these say.

    A source that cannot be seen or read from here is left to the fetch, which runs where it can and says what is wrong.
    The recipe is looked at again after it.

    Args:
        recipe: what is to be made.
        location: the source, as ``check_source`` returns it.
        roots: the folders under which the operator allows local sources.

    Returns:
        the facts of the model, or None where it cannot be seen.

    Raises:
        InvalidRequest: ``param`` names the field, the message what would be valid.
        ModelUnsupported: the method cannot work on such a model.
    """
    seen = _seen(location, roots)
    if seen is None:
        return None
    facts, found = seen
    recipe.check(facts)
    recipe.check_matrices(found)
    return facts


def facts_of(location: str, roots: tuple[Path, ...]) -> ModelFacts | None:
    """Return what the headers of a source say, whatever is made of it; None where it cannot be seen from here."""
    seen = _seen(location, roots)
    return None if seen is None else seen[0]


def _seen(location: str, roots: tuple[Path, ...]) -> Seen | None:
    try:
        folder = local_folder(location, roots)
        return _read(folder, roots, _state_of(folder))
    except (OSError, RequestError):
        return None


@functools.lru_cache(maxsize=KNOWN_MAX)
def _read(folder: Path, roots: tuple[Path, ...], _state: tuple[tuple[object, ...], ...]) -> Seen:
    """Read a folder once for each state that it is in: a tokenizer alone may take a tenth of a second."""
    facts = source.inspect(folder, roots)
    return facts, matrices(weight_tensors(folder, roots), output_head=True)


def _state_of(folder: Path) -> tuple[tuple[object, ...], ...]:
    """Return what differs once a file in a folder has been changed or replaced."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat()) for entry in entries]
    return tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found))
