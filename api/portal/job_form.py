"""The form of a new job: the fields of a request, and in the place of its recipe those of one method's parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from api.portal.answers import Errors, Texts, texts_of, values_of
from api.portal.fields import Field, Kind, fields_of
from api.portal.request_form import RequestForm
from api.requests import JobRequest
from engines.methods.base import CalibratedParams, Method

RECIPE = "recipe"
FIRST = ("source",)  # asked before the recipe


@dataclass(frozen=True, kw_only=True)
class JobForm(RequestForm[JobRequest]):
    """The fields for one method.

    Attributes:
        method: the method.
        recipe: its parameters, which follow what is asked first.
    """

    method: Method
    recipe: tuple[Field, ...]

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
            model=JobRequest,
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

    def texts_with(self, given: Mapping[str, Any], parameters: Mapping[str, Any]) -> Texts:
        """Return what stands in the fields at first: what is given, and of the recipe, else defaults."""
        texts = texts_of(self.first + self.groups + self.advanced, given)
        texts.update(texts_of(self.recipe, parameters))
        return texts

    def document(self, texts: Texts) -> tuple[dict[str, Any], Errors]:
        """Return the request's JSON document, its recipe as an object, and what could not be read."""
        document, errors = values_of(self.first + self.groups + self.advanced, texts)
        parameters, wrong = values_of(self.recipe, texts)
        return {**document, RECIPE: {"method": self.method.name, **parameters}}, errors | wrong

    def wrong_in(self, document: Mapping[str, Any]) -> Errors:
        """Return what the models of the request and of the method's parameters say is wrong."""
        parameters = {name: value for name, value in document[RECIPE].items() if name != "method"}
        return self.found_by(self.method.Params, parameters, (RECIPE,)) | super().wrong_in(document)
