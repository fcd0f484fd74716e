"""The form of a new job: the fields of a request, and in the place of its recipe those of one method's parameters."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from flask import current_app
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from api.portal.answers import Errors, Texts, texts_of, values_of
from api.portal.fields import Field, Kind, fields_of
from api.requests import JobRequest
from api.strict_json import Location, UnusableText
from engines.methods.base import CalibratedParams, Method

RECIPE = "recipe"
FIRST = ("source",)  # asked before the recipe
IN_WORDS = {
    "missing": "This is required.",
    "int_type": "This must be a whole number.",
    "int_from_float": "This must be a whole number.",
    "float_type": "This must be a number.",
    "greater_than": "This must be more than {gt}.",
    "greater_than_equal": "This must be at least {ge}.",
    "less_than": "This must be less than {lt}.",
    "less_than_equal": "This must be at most {le}.",
    "multiple_of": "This must be a multiple of {multiple_of}.",
    "too_short": "At least {min_length} must be given.",
}
WHOLE = ""  # the name of what is wrong with no field in particular


@dataclass(frozen=True)
class RequestForm:
    """The fields for one method.

    Attributes:
        method: the method.
        first: the fields before the recipe.
        recipe: the method's parameters.
        groups: objects of the request, each a group of fields.
        advanced: the other fields, which seldom need an answer.
    """

    method: Method
    first: tuple[Field, ...]
    recipe: tuple[Field, ...]
    groups: tuple[Field, ...]
    advanced: tuple[Field, ...]

    @classmethod
    def of(cls, method: Method, choose: Callable[[Field], Field]) -> Self:
        """Return the form for ``method``.

        Args:
            method: the method.
            choose: makes of a field in which texts are named one in which they are chosen.
        """
        parameters = fields_of(method.schema(), RECIPE)
        if issubclass(method.Params, CalibratedParams):
            parameters = tuple(choose(one) for one in parameters)
        others = [choose(field) for field in fields_of(JobRequest.model_json_schema()) if field.name != RECIPE]
        rest = [field for field in others if field.name not in FIRST]
        return cls(
            method=method,
            first=tuple(field for field in others if field.name in FIRST),
            recipe=parameters,
            groups=tuple(field for field in rest if field.kind is Kind.GROUP),
            advanced=tuple(field for field in rest if field.kind is not Kind.GROUP),
        )

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every field, in the order in which they are shown; groups as one."""
        return self.first + self.recipe + self.groups + self.advanced

    def each(self) -> Iterator[Field]:
        """Yield every field, and those within groups."""
        for field in self.fields:
            yield from field.each()

    def texts(self, given: Mapping[str, Any], parameters: Mapping[str, Any]) -> Texts:
        """Return what stands in the fields at first: what is given, else defaults."""
        texts = texts_of(self.first + self.groups + self.advanced, given)
        texts.update(texts_of(self.recipe, parameters))
        return texts

    def read(self, texts: Texts) -> tuple[JobRequest | None, Errors]:
        """Return the request that was typed, checked as one that came as JSON; None and what is wrong if it is not."""
        document, errors = values_of(self.first + self.groups + self.advanced, texts)
        parameters, wrong = values_of(self.recipe, texts)
        errors |= wrong
        document[RECIPE] = {"method": self.method.name, **parameters}
        try:
            document = current_app.json.loads(json.dumps(document))
        except UnusableText as error:
            return None, errors | {self.name_of(error.location): error.message}
        except ValueError as error:
            return None, errors | {WHOLE: f"The request is not valid: {error}."}
        errors = self._wrong(self.method.Params, parameters, (RECIPE,)) | self._wrong(JobRequest, document) | errors
        return (None if errors else JobRequest.model_validate(document)), errors

    def name_of(self, location: Location) -> str:
        """Return the field that a place in the request belongs to."""
        names = {field.name for field in self.each()}
        for end in range(len(location), 0, -1):
            name = ".".join(map(str, location[:end]))
            if name in names:
                return name
        return WHOLE

    def _wrong(self, model: type[BaseModel], values: Mapping[str, Any], at: Location = ()) -> Errors:
        try:
            model.model_validate(values)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            return {self.name_of((*at, *one["loc"])): _in_words(one) for one in reversed(found)}
        return {}


def _in_words(error: ErrorDetails) -> str:
    """Return what is wrong with a field, for people who know of no types; else in Pydantic's words."""
    words = IN_WORDS.get(error["type"])
    return error["msg"] if words is None else words.format(**error.get("ctx", {}))
