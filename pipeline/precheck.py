"""What can be said of a source before anything runs, where it can be seen from here, and of recipes for it."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import RequestError, SourceInvalid
from engines import families, source
from engines.checkpoints import matrices
from engines.description import Description, describe
from engines.methods.base import registered
from engines.model_facts import ModelFacts, name_of_kind
from engines.recipe import Recipe, parse_recipe, preset_recipe
from engines.source import weight_tensors
from pipeline.sources import local_folder

KNOWN_MAX = 256  # folders of which what was seen is kept in memory

State = tuple[tuple[object, ...], ...]  # of a folder: what differs once a file in it has been changed


@dataclass(frozen=True)
class Seen:
    """What the headers of a source say.

    Attributes:
        facts: what engines go by.
        matrices: rows and columns of each that could be quantized, an output head among them, by its module.
    """

    facts: ModelFacts
    matrices: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Fit:
    """Whether a recipe goes with a model.

    Attributes:
        name: the recipe in short form.
        recipe: the recipe.
        error: why it is refused; None where it goes with the model.
        warnings: what a person should know before it is used, in sentences.
    """

    name: str
    recipe: Recipe
    error: RequestError | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """What is known of a model before anything runs.

    Attributes:
        facts: what engines go by.
        description: what a person may want to know.
        fits: of each method its default and its presets.
    """

    facts: ModelFacts
    description: Description
    fits: tuple[Fit, ...]


def inspect_model(location: str, roots: tuple[Path, ...]) -> Inspection:
    """Look at a source's headers and small files, and at what could be made of it.

    Args:
        location: the source, as ``check_source`` returns it.
        roots: the folders under which the operator allows local sources.

    Raises:
        RequestError: it cannot be seen from here, or no engine can work on it; ``param`` is ``source``.
    """
    try:
        folder = local_folder(location, roots)
        state = _state_of(folder)
        seen = _read(folder, roots, state)
        description = _describe(folder, roots, state)
    except OSError as error:
        raise SourceInvalid(
            f"The API cannot see {location} ({error.strerror}). Check the path; if only workers see it, submit a job, "
            "whose first step looks at the model.",
            param="source",
        ) from None
    except RequestError as error:
        error.param = "source"
        raise
    kinds = Seen(seen.facts, _one_of_each_kind(seen.matrices))
    fits = tuple(_fit(name, recipe, kinds) for name, recipe in usual_recipes().items())
    return Inspection(seen.facts, description, fits)


def look_at(location: str, roots: tuple[Path, ...]) -> Seen | None:
    """Return what the headers of a source say, whatever is made of it.

    A source that cannot be seen or read from here is left to the fetch, which runs where it can and says what is wrong.

    Args:
        location: the source, as ``check_source`` returns it.
        roots: the folders under which the operator allows local sources.

    Returns:
        None where it cannot be seen from here.
    """
    try:
        folder = local_folder(location, roots)
        return _read(folder, roots, _state_of(folder))
    except (OSError, RequestError):
        return None


def require_fit(recipe: Recipe, seen: Seen) -> None:
    """Refuse a recipe that does not go with its source, by the source's headers; after the fetch it is looked at again.

    Raises:
        InvalidRequest: ``param`` names the field, the message what would be valid.
        ModelUnsupported: the method cannot work on such a model.
    """
    recipe.check(seen.facts)
    recipe.check_matrices(seen.matrices)


def _one_of_each_kind(found: Mapping[str, tuple[int, int]]) -> Mapping[str, tuple[int, int]]:
    """Return one of those matrices that differ only by numbers in their names, which no usual recipe tells apart.

    A model may have tens of thousands of them, and to look at each for every recipe takes seconds.
    """
    kinds: dict[tuple[str, tuple[int, int]], str] = {}
    for name, shape in found.items():
        kinds.setdefault((name_of_kind(name), shape), name)
    return {name: found[name] for name in kinds.values()}


def usual_recipes() -> dict[str, Recipe]:
    """Return the default of each method and its presets, by their short forms."""
    usual: dict[str, Recipe] = {}
    for _, method in sorted(registered().items()):
        default = parse_recipe(method.name)
        presets = (preset_recipe(method, preset) for preset in method.presets)
        usual |= {default.short: default, **{name: Recipe(method, params) for name, params in presets}}
    return usual


def _fit(name: str, recipe: Recipe, seen: Seen) -> Fit:
    try:
        require_fit(recipe, seen)
    except RequestError as error:
        return Fit(name, recipe, error, ())
    return Fit(name, recipe, None, recipe.warnings + families.warnings(recipe.tried_as, seen.facts))


@functools.lru_cache(maxsize=KNOWN_MAX)
def _describe(folder: Path, roots: tuple[Path, ...], _state: State) -> Description:
    return describe(folder, roots)


@functools.lru_cache(maxsize=KNOWN_MAX)
def _read(folder: Path, roots: tuple[Path, ...], _state: State) -> Seen:
    """Read a folder once for each state that it is in: a tokenizer alone may take a tenth of a second."""
    facts = source.inspect(folder, roots)
    return Seen(facts, matrices(weight_tensors(folder, roots), output_head=True))


def _state_of(folder: Path) -> State:
    """Return what differs once a file in a folder has been changed or replaced."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat()) for entry in entries]
    return tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found))
