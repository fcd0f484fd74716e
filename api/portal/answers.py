"""What stands in the fields of a form: texts from values, and values from what was typed.

What was typed and is no number stays a text here, so that the request's own validation says what is wrong with it.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.datastructures import MultiDict

from api.portal.fields import Field, Kind

ON = "on"

Texts = MultiDict[str, str]
Errors = dict[str, str]


def texts_of(fields: Iterable[Field], given: Mapping[str, Any]) -> Texts:
    """Return what stands in the fields for an object; the default where it does not have a field's value."""
    texts: Texts = MultiDict()
    for field in fields:
        value = given.get(field.key, field.default)
        if field.kind is Kind.GROUP:
            texts.update(texts_of(field.fields, value or {}))
            if field.nullable and value is not None:
                texts[field.name] = ON
        elif field.kind is Kind.CHOICES:
            texts.update({field.name: [text_of(option) for option in value or ()]})
        elif field.kind is not Kind.SWITCH:
            texts[field.name] = _text(field, value)
        elif value:  # a browser sends nothing of a box that is not ticked
            texts[field.name] = ON
    return texts


def text_of(option: Any) -> str:
    """Return how a value of a choice is sent."""
    return option if isinstance(option, str) else json.dumps(option)


def values_of(fields: Iterable[Field], texts: Texts) -> tuple[dict[str, Any], Errors]:
    """Return the object that was typed, and what could not be read, by the names of the fields.

    A field left empty is left out, so that its default holds; it is null where that is allowed.
    """
    values: dict[str, Any] = {}
    errors: Errors = {}
    for field in fields:
        if field.kind is Kind.GROUP and field.nullable and field.name not in texts:
            values[field.key] = None
            continue
        if field.kind is Kind.GROUP:
            values[field.key], inner = values_of(field.fields, texts)
            errors.update(inner)
            continue
        try:
            value = _value(field, texts)
        except ValueError as error:
            errors[field.name] = str(error)
            continue
        if value is not None or (field.nullable and not field.required):
            values[field.key] = value
    return values, errors


def _text(field: Field, value: Any) -> str:
    if field.kind is Kind.LINES:
        return "\n".join(value or ())
    if field.kind is Kind.INTEGERS:
        return ", ".join(map(str, value or ()))
    if field.kind is Kind.PAIRS:
        return "\n".join(f"{name}={text}" for name, text in (value or {}).items())
    if value is None:
        return ""
    if field.kind is Kind.JSON:
        return json.dumps(value, ensure_ascii=False)
    return text_of(value)


def _value(field: Field, texts: Texts) -> Any:
    """Return a field's value, None where it is empty.

    Raises:
        ValueError: it cannot be read; the message is for whoever typed it.
    """
    if field.kind is Kind.SWITCH:
        return field.name in texts
    if field.kind is Kind.CHOICES:
        return [_option(field, text) for text in texts.getlist(field.name)]
    text = texts.get(field.name, "").strip()
    if field.kind is Kind.CHOICE:
        return _option(field, text) if text else None
    return _READERS[field.kind](text)


def _option(field: Field, text: str) -> Any:
    return next((option for option in field.options if text_of(option) == text), text)


def _integer(text: str) -> int | str | None:
    try:
        return int(text)
    except ValueError:
        return text or None


def _number(text: str) -> float | str | None:
    try:
        value = float(text)
    except ValueError:
        return text or None
    return value if math.isfinite(value) else text


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError as error:
        raise ValueError(f"This is not JSON: {error}.") from None
    except RecursionError:
        raise ValueError("This is nested too deeply.") from None


def _integers(text: str) -> list[int | str] | None:
    return [int(part) if part.isdecimal() else part for part in map(str.strip, text.split(","))] if text else None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for line in _lines(text):
        name, equals, value = line.partition("=")
        if not equals:
            raise ValueError(f"Write one NAME=VALUE on a line; there is no '=' in {line[:40]!r}.")
        if name.strip() in pairs:
            raise ValueError(f"The name {name.strip()[:40]!r} stands on two lines.")
        pairs[name.strip()] = value.strip()
    return pairs


_READERS: Mapping[Kind, Callable[[str], Any]] = {
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.TEXT: lambda text: text or None,
    Kind.LINES: _lines,
    Kind.INTEGERS: _integers,
    Kind.PAIRS: _pairs,
    Kind.JSON: _json,
}
