"""The forms of a new sweep, and of further recipes of one: recipes are typed one a line, in short form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from api.portal.answers import Errors, Texts
from api.portal.fields import Field, Kind, fields_of
from api.portal.request_form import Asked, RequestForm, in_words
from api.strict_json import Location
from api.sweep_requests import ExtensionRequest, SweepRequest
from core.errors import RequestError

RECIPES, PRESET = "recipes", "preset"
FIRST = ("source", PRESET, RECIPES)


class RecipesForm(RequestForm[Asked]):
    """A form with recipes, of which the one that is wrong is named."""

    def refusal(self, error: RequestError, recipes: Sequence[Any]) -> Errors:
        """Return what is wrong, by field, where a request was refused.

        Args:
            error: the refusal.
            recipes: those that were asked for.
        """
        location = tuple(int(part) if part.isdecimal() else part for part in (error.param or "").split("."))
        return {self.name_of(location): _of_recipe(error.message, location, recipes)}

    def found_by(self, model: type[BaseModel], values: Mapping[str, Any], at: Location = ()) -> Errors:
        """Return what the model says is wrong; what is wrong with no field in particular is wrong with the recipes."""
        try:
            model.model_validate(values)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            return {
                self.name_of((*at, *one["loc"])) or RECIPES: _of_recipe(
                    in_words(one), one["loc"], values.get(RECIPES, ())
                )
                for one in reversed(found)
            }
        return {}


class SweepForm(RecipesForm[SweepRequest]):
    """The form of a new sweep."""

    @classmethod
    def of(cls, choose: Callable[[Field], Field]) -> Self:
        """Return the form.

        Args:
            choose: makes of a field in which texts are named one in which they are chosen.
        """
        every = {field.name: _optional(choose(field)) for field in fields_of(SweepRequest.model_json_schema())}
        rest = [field for field in every.values() if field.name not in FIRST]
        return cls(
            model=SweepRequest,
            first=tuple(every[name] for name in FIRST),
            groups=tuple(field for field in rest if field.kind is Kind.GROUP),
            advanced=tuple(field for field in rest if field.kind is not Kind.GROUP),
        )

    def document(self, texts: Texts) -> tuple[dict[str, Any], Errors]:
        """Return the request's JSON document, without recipes or without a preset where none was typed or chosen."""
        document, errors = super().document(texts)
        return {name: value for name, value in document.items() if value or name not in (RECIPES, PRESET)}, errors


def extension_form() -> RecipesForm[ExtensionRequest]:
    """Return the form of further recipes."""
    return RecipesForm(model=ExtensionRequest, first=fields_of(ExtensionRequest.model_json_schema()))


def _optional(field: Field) -> Field:
    """Return the choice of a preset as one that may be left open, in favour of recipes."""
    return replace(field, nullable=True) if field.name == PRESET else field


def _of_recipe(message: str, location: Sequence[int | str], recipes: Sequence[Any]) -> str:
    """Return a message with the recipe that it is about, where it is about one."""
    match location:
        case [str(name), int(index), *_] if name == RECIPES and index < len(recipes):
            return f"{recipes[index]}: {message}"
        case _:
            return message
