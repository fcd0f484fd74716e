"""Make what a recipe is made of, and the recipe, without a pipeline."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines import calibration, convert, imatrix
from engines.calibration import Calibration
from engines.context import EngineContext
from engines.methods.base import Material
from engines.recipe import Recipe
from tests.engines.conftest import MakeContext, linked


def material_of(
    recipe: Recipe, model: Path, make_context: MakeContext, lossless: Path | None = None
) -> dict[Material, Path]:
    """Make all that a recipe asks for of a model, as links, as a step finds it.

    Args:
        recipe: what will be made.
        model: the source.
        make_context: makes a context for each piece.
        lossless: the folder with the converted file, where there is one already.
    """
    asked = recipe.method.material(recipe.params)
    made: dict[Material, Path] = {"snapshot": model}
    if "gguf" in asked:
        made["gguf"] = lossless or converted(model, make_context())
    if "samples" in asked:
        made["samples"] = samples_for(Calibration(**asked["samples"]), model, make_context())
    if "imatrix" in asked:
        made["imatrix"] = imatrix_for(made["gguf"], made["samples"], make_context())
    links = make_context().scratch
    return {name: linked(folder, links / name) for name, folder in made.items() if name in asked}


def converted(model: Path, context: EngineContext) -> Path:
    convert.convert(context, model)
    return context.output


def samples_for(wanted: Calibration, model: Path, context: EngineContext) -> Path:
    calibration.write_samples(context.output, model, wanted, {})
    return context.output


def imatrix_for(lossless: Path, samples: Path, context: EngineContext) -> Path:
    # One thread: several wait for each other by turning in circles, which takes minutes where cores are shared.
    imatrix.write_imatrix(dataclasses.replace(context, threads=1), lossless, samples)
    return context.output


def quantize(
    recipe: Recipe,
    context: EngineContext,
    model: Path,
    make_context: MakeContext,
    lossless: Path | None = None,
) -> Mapping[str, Any]:
    """Make a recipe's result into ``context.output``, and return its facts."""
    return recipe.method.quantize(context, material_of(recipe, model, make_context, lossless), recipe.params)
