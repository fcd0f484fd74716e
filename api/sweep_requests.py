"""What a client may send to have recipes compared: bodies and query parameters, beside those of ``api/requests.py``."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from api.requests import Body, Id, JobTerms, Limit, Query, RecipeForm
from pipeline.sweep_presets import SweepPreset

RECIPES_MAX = 64

Recipes = Annotated[list[RecipeForm], Field(min_length=1, max_length=RECIPES_MAX)]


def _one_of_two(schema: dict[str, Any]) -> None:
    """Say that recipes are listed, or a preset is named; that neither may be null follows."""
    preset = schema["properties"]["preset"]
    del preset["default"]
    preset.update(next(branch for branch in preset.pop("anyOf") if branch != {"type": "null"}))
    del schema["properties"]["recipes"]["default"]
    schema["oneOf"] = [{"required": ["recipes"]}, {"required": ["preset"]}]


class SweepRequest(JobTerms):
    """Many recipes on one source, compared."""

    model_config = ConfigDict(json_schema_extra=_one_of_two)

    recipes: Recipes = Field(
        default=[],
        description="What is compared, each as in a job; nothing twice",
        examples=[["gguf:Q8_0", "gguf:Q4_K_M", {"method": "gptq", "bits": 4}]],
    )
    preset: SweepPreset | None = Field(
        default=None,
        description="A list of recipes by its name, in place of one; those that do not go with the model, or that no "
        "worker could run, are left out, and a warning says so",
    )
    publish_to: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="A folder in which each result gets a new folder of its own, named after its recipe",
        examples=["file:///published/llama-3-8b"],
    )

    @field_validator("preset")
    @classmethod
    def _named(cls, preset: SweepPreset | None) -> SweepPreset | None:
        if preset is None:  # given as null: what is not given is not asked
            raise PydanticCustomError("preset", "Input should be the name of a preset, or left out")
        return preset

    @model_validator(mode="before")
    @classmethod
    def _either(cls, given: Any) -> Any:
        if isinstance(given, dict) and ("recipes" in given) == ("preset" in given):
            raise PydanticCustomError("recipes", "Name recipes, or a preset in their place")
        return given

    @property
    def terms(self) -> dict[str, Any]:
        """What each of its jobs is asked for beside its recipe, JSON-compatible."""
        return self.model_dump(mode="json", include=set(JobTerms.model_fields))


class ExtensionRequest(Body):
    """Further recipes of a sweep."""

    recipes: Recipes = Field(description="What is compared from now on, too; none that the sweep has already")


class SweepQuery(Query):
    """Which sweeps a page holds."""

    limit: Limit = 50
    after: Id | None = Field(default=None, description="The last sweep seen so far")
