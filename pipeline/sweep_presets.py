"""Lists of recipes that are compared by one name. Refuses to know: which of them go with a model."""

from collections.abc import Sequence
from typing import Literal, get_args

from engines.recipe import Recipe, parse_recipe
from pipeline.precheck import usual_recipes

SweepPreset = Literal["gguf-all", "gpu-4bit", "everything"]
PRESETS: tuple[SweepPreset, ...] = get_args(SweepPreset)

# From hardly smaller to hardly usable; below four bits also what an importance matrix makes of as few.
_GGUF_ALL = (
    "gguf:Q8_0",
    "gguf:Q6_K",
    "gguf:Q5_K_M",
    "gguf:Q5_K_S",
    "gguf:Q4_K_M",
    "gguf:Q4_K_M+imatrix",
    "gguf:Q4_K_S",
    "gguf:IQ4_XS+imatrix",
    "gguf:Q3_K_L",
    "gguf:Q3_K_M",
    "gguf:Q3_K_M+imatrix",
    "gguf:Q3_K_S",
    "gguf:IQ3_M+imatrix",
    "gguf:Q2_K",
    "gguf:IQ2_M+imatrix",
)
# Those that servers on GPUs have fast kernels for: docs/methods.md.
_GPU_4BIT = ("gptq:4bit-g128", "gptq:4bit-g32", "awq:4bit-g128", "int4:w4a16-g128")


def preset_recipes(preset: SweepPreset) -> Sequence[Recipe]:
    """Return the recipes of a preset, none of them twice."""
    if preset == "gguf-all":
        return [parse_recipe(name) for name in _GGUF_ALL]
    if preset == "gpu-4bit":
        return [parse_recipe(name) for name in _GPU_4BIT]
    usual = usual_recipes().values()
    recipes = [*usual, *(parse_recipe(name) for name in (*_GGUF_ALL, *_GPU_4BIT))]
    return [recipe for index, recipe in enumerate(recipes) if recipe not in recipes[:index]]
