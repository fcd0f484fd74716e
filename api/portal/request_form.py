"""A form that has the fields of a request, and reads what was typed as the request's JSON would be read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from flask import current_app
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from api.portal.answers import Errors, Texts, texts_of, values_of
from api.portal.fields import Field
from api.requests import Body
from api.strict_json import Location, UnusableText

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
    "too_long": "At most {max_length} may be given.",
    "too_short": "At least {min_length} must be given.",
}
WHOLE = ""  # the name of what is wrong with no field in particular


Asked = TypeVar("Asked", bound=Body)


@dataclass(frozen=True)
class RequestForm(Generic[Asked]):
    """The fields of a request.

    Attributes:
        model: what is asked for.
        first: the fields that are asked first.
        groups: objects of the request, each a group of fields.
        advanced: the other fields, which seldom need an answer.
    """

    model: type[Asked]
    first: tuple[Field, ...]
    groups: tuple[Field, ...] = ()
    advanced: tuple[Field, ...] = ()

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every field, in the order in which they are shown; groups as one."""
        return self.first + self.groups + self.advanced

    @property
    def labels(self) -> dict[str, str]:
        """What each field is called, in the order in which they are shown."""
        return {field.name: field.label for field in self.each()}

    def each(self) -> Iterator[Field]:
        """Yield every field, and those within groups."""
        for field in self.fields:
            yield from field.each()

    def shown(self, errors: Errors) -> Errors:
        """Return what is wrong, in the order in which the fields are shown."""
        return {name: errors[name] for name in (WHOLE, *self.labels) if name in errors}

    def texts(self, given: Mapping[str, Any]) -> Texts:
        """Return what stands in the fields at first: what is given, else defaults."""
        return texts_of(self.fields, given)

    def read(self, texts: Texts) -> tuple[Asked | None, Errors]:
        """Return the request that was typed, checked as one that came as JSON; None and what is wrong if it is not."""
        document, errors = self.document(texts)
        try:
            document = current_app.json.loads(json.dumps(document))
        except UnusableText as error:
            return None, errors | {self.name_of(error.location): error.message}
        except ValueError as error:
            return None, errors | {WHOLE: f"The request is not valid: {error}."}
        errors = self.wrong_in(document) | errors
        return (None if errors else self.model.model_validate(document)), errors

    def document(self, texts: Texts) -> tuple[dict[str, Any], Errors]:
        """Return the request's JSON document, and what could not be read."""
        return values_of(self.fields, texts)

    def wrong_in(self, document: Mapping[str, Any]) -> Errors:
        """Return what the models say is wrong with a request."""
        return self.found_by(self.model, document)

    def name_of(self, location: Location) -> str:
        """Return the field that a place in the request belongs to."""
        names = {field.name for field in self.each()}
        for end in range(len(location), 0, -1):
            name = ".".join(map(str, location[:end]))
            if name in names:
                return name
        return WHOLE

    def found_by(self, model: type[BaseModel], values: Mapping[str, Any], at: Location = ()) -> Errors:
        """Return what a model says is wrong with values that stand at a place in the request, by field."""
        try:
            model.model_validate(values)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            return {self.name_of((*at, *one["loc"])): in_words(one) for one in reversed(found)}
        return {}


def in_words(error: ErrorDetails) -> str:
    """Return what is wrong with a field, for people who know of no types; else in Pydantic's words."""
    words = IN_WORDS.get(error["type"])
    return error["msg"] if words is None else words.format(**error.get("ctx", {}))
