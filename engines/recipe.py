"""A recipe: a method and its parameters, in short form (``gguf:Q4_K_M``) or as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from core.errors import InvalidRequest
from engines import families, methods, serving
from engines.methods.base import CalibratedParams, Method, MethodParams, Preset
from engines.model_facts import ModelFacts


@dataclass(frozen=True)
class Recipe:
    """A method and validated parameters of it.

    Attributes:
        method: the method.
        params: an instance of ``method.Params``.
    """

    method: Method
    params: MethodParams

    @property
    def short(self) -> str:
        """The short form, such as ``gguf:Q4_K_M``; a preset's where it is one."""
        presets = (preset_recipe(self.method, preset) for preset in self.method.presets)
        return next((name for name, params in presets if params == self.params), self.method.short(self.params))

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters as plain data, defaults included."""
        return self.params.model_dump(mode="json")

    @property
    def tried_as(self) -> str:
        """The column of ``engines.families`` that the recipe is in."""
        return self.method.tried_as(self.params)

    @property
    def runtimes(self) -> tuple[serving.Note, ...]:
        """Which runtimes can serve what it makes, and which cannot."""
        return serving.notes(self.method.writes(self.params), self.method.promises(self.params))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know before it is used, whatever the model, in sentences."""
        return serving.warnings(self.short, self.runtimes)

    def check(self, facts: ModelFacts) -> None:
        """Refuse a model of these facts that the recipe does not go with, before anything is computed.

        Raises:
            InvalidRequest: ``param`` names the field, the message what would be valid.
            ModelUnsupported: the method cannot work on such a model.
        """
        families.require_possible(self.tried_as, facts)
        self.method.check(facts, self.params)
        tokens = self.method.material(self.params).get("samples", {}).get("tokens", 0)
        if 0 < facts.position_count < tokens:
            raise InvalidRequest(
                f"The model reads {facts.position_count} tokens at once, and samples of {tokens} were asked for. Lower "
                "calibration_tokens.",
                param="recipe.calibration_tokens",
            )

    def check_matrices(self, found: Mapping[str, tuple[int, int]]) -> None:
        """Refuse a model that has such matrices; see ``Method.check_matrices``."""
        self.method.check_matrices(found, self.params)

    def document(self) -> dict[str, Any]:
        """Return the long form: ``{"method": …}`` and every parameter."""
        return {"method": self.method.name, **self.parameters}

    def work(self) -> dict[str, Any]:
        """Return the long form of what is done, which the same work has in every recipe.

        How to calibrate is left out where nothing looks at text: it changes nothing, and must not make a second result.
        """
        if "samples" in self.method.material(self.params):
            return self.document()
        return {name: value for name, value in self.document().items() if name not in CalibratedParams.model_fields}


def preset_recipe(method: Method, preset: Preset) -> tuple[str, MethodParams]:
    """Return a preset's short form and its parameters, defaults included."""
    name = f"{method.name}:{preset.name}" if preset.name else method.name
    return name, method.Params.model_validate(preset.parameters)


def parse_recipe(value: str | Mapping[str, Any]) -> Recipe:
    """Return the recipe that ``value`` says, in either form.

    Args:
        value: ``"gguf:Q4_K_M"``, ``"gguf"`` for the method's defaults, or ``{"method": "gguf", "type": "Q4_K_M"}``.

    Raises:
        InvalidRequest: no such method or parameter; ``param`` names the field, the message what would be valid.
    """
    if isinstance(value, str):
        name, _, text = value.strip().partition(":")
        method = methods.get(name.lower())
        given = _parse_short(method, text)
    elif isinstance(value, Mapping):
        given = dict(value)
        name = given.pop("method", None)
        if not isinstance(name, str):
            raise InvalidRequest('A recipe needs its method, as {"method": "gguf", …}.', param="recipe.method")
        method = methods.get(name)
    else:
        raise InvalidRequest('A recipe is a text such as "gguf:Q4_K_M" or an object.', param="recipe")
    try:
        return Recipe(method, method.Params.model_validate(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in ("recipe", *first["loc"]))
        known = ", ".join(method.Params.model_fields) or "none"
        extra = f" {method.name} takes: {known}." if first["type"] == "extra_forbidden" else ""
        raise InvalidRequest(f"{field}: {first['msg']}.{extra}", param=field) from None


def _parse_short(method: Method, text: str) -> dict[str, Any]:
    for preset in method.presets:
        if text.lower() == preset.name.lower():
            return dict(preset.parameters)
    return method.parse_short(text)
