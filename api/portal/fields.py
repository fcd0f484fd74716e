"""From a JSON Schema, as Pydantic makes it of a model, to the fields of a form.

Whatever a schema says that no control can express becomes a text box for JSON, so that every method has a whole form.
Refuses to know: HTML, and what anybody typed.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]

UNITS = ("seconds", "bytes")


class Kind(enum.StrEnum):
    """Which control a field has."""

    CHOICE = "choice"  # one of its options
    CHOICES = "choices"  # any of its options
    SWITCH = "switch"  # on or off
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    LINES = "lines"  # texts, one a line
    PAIRS = "pairs"  # NAME=VALUE, one a line
    JSON = "json"
    GROUP = "group"  # fields of its own


_PLAIN_KINDS: Mapping[str, Kind] = {
    "boolean": Kind.SWITCH,
    "integer": Kind.INTEGER,
    "number": Kind.NUMBER,
    "string": Kind.TEXT,
}


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        name: its place in the request, dotted, such as ``recipe.bits``.
        label: its name in words.
        help: what it means; empty where the schema does not say.
        kind: its control.
        required: whether there is no default.
        nullable: whether it may be left empty, which then means null.
        default: what holds where nothing is given; None where that is null, or where there is no default.
        options: the values of a choice.
        names: what options are called, by how they are sent, where that is not how they are sent.
        groups: headings, each with the options below it; empty where options need none.
        minimum: the least value of a number; for one that must be greater than a bound, that bound.
        maximum: the greatest, likewise.
        step: what a number must be a multiple of.
        fields: those of a group.
    """

    name: str
    label: str
    help: str
    kind: Kind
    required: bool
    nullable: bool
    default: Any
    options: tuple[Any, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    fields: tuple["Field", ...] = ()

    @property
    def key(self) -> str:
        """Its name within the object that it is a field of."""
        return self.name.rpartition(".")[2]

    @property
    def note(self) -> str:
        """What is said below it: its meaning, its bounds, and what holds where nothing is given."""
        multiple = f"A multiple of {self.step:,}" if self.step else ""
        sentences = [self.help, _between(self.minimum, self.maximum), multiple, _how_typed(self.kind)]
        if self.default not in (None, "", [], {}) and self.kind is not Kind.GROUP:
            sentences.append(f"Default: {_in_words(self.default)}")
        return " ".join(f"{sentence.rstrip('.')}." for sentence in sentences if sentence)

    def each(self) -> Iterator["Field"]:
        """Yield the field, and those within it."""
        yield self
        for inner in self.fields:
            yield from inner.each()


def fields_of(schema: Schema, prefix: str = "") -> tuple[Field, ...]:
    """Return the fields of an object's schema, in the order of the model.

    Args:
        schema: of the object, its definitions included.
        prefix: where the object stands in the request, such as ``recipe``; empty for the request itself.
    """
    return _fields(schema, schema.get("$defs", {}), prefix)


def _fields(schema: Schema, definitions: Schema, prefix: str) -> tuple[Field, ...]:
    required = schema.get("required", ())
    return tuple(
        _field(f"{prefix}.{key}" if prefix else key, inner, definitions, required=key in required)
        for key, inner in schema.get("properties", {}).items()
    )


def _field(name: str, schema: Schema, definitions: Schema, *, required: bool) -> Field:
    plain, nullable = _resolve(schema, definitions)
    kind = _kind(plain, definitions)
    if kind is Kind.GROUP and nullable:
        kind = Kind.JSON  # a group of controls cannot say that there is none
    of_items = _resolve(plain.get("items", {}), definitions)[0] if kind is Kind.CHOICES else plain
    whole = 1 if kind is Kind.INTEGER else 0
    return Field(
        name=name,
        label=_label(name),
        help=plain.get("description", ""),
        kind=kind,
        required=required,
        nullable=nullable,
        default=plain.get("default"),
        options=tuple(value for value in _options(of_items) if value is not None),
        minimum=_bound(plain, "minimum", "exclusiveMinimum", whole),
        maximum=_bound(plain, "maximum", "exclusiveMaximum", -whole),
        step=plain.get("multipleOf"),
        fields=_fields(plain, definitions, name) if kind is Kind.GROUP else (),
    )


def _resolve(schema: Schema, definitions: Schema) -> tuple[Schema, bool]:
    """Return a schema without references and without null, and whether null was allowed."""
    merged = dict(schema)
    nullable = False
    while True:
        if "$ref" in merged:
            inner = definitions.get(merged.pop("$ref").rpartition("/")[2], {})
            merged = {**inner, **merged}
            continue
        word = next((word for word in ("anyOf", "oneOf", "allOf") if word in merged), None)
        if word is None:
            break
        branches = [branch for branch in merged[word] if branch.get("type") != "null"]
        nullable = nullable or len(branches) < len(merged[word])
        if len(branches) != 1:
            break
        del merged[word]
        merged = {**branches[0], **merged}
    return merged, nullable or None in _options(merged)


def _kind(schema: Schema, definitions: Schema) -> Kind:
    if _options(schema):
        return Kind.CHOICE
    match schema.get("type"):
        case "array":
            return _kind_of_list(_resolve(schema.get("items", {}), definitions)[0])
        case "object":
            return _kind_of_object(schema)
        case str(name):
            return _PLAIN_KINDS.get(name, Kind.JSON)
        case _:
            return Kind.JSON


def _kind_of_list(items: Schema) -> Kind:
    if _options(items):
        return Kind.CHOICES
    forms = items.get("anyOf", [items])
    return Kind.LINES if any(form.get("type") == "string" for form in forms) else Kind.JSON


def _kind_of_object(schema: Schema) -> Kind:
    if "properties" in schema:
        return Kind.GROUP
    members = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    kinds = {member.get("type") for member in members if isinstance(member, Mapping)}
    return Kind.PAIRS if kinds == {"string"} else Kind.JSON


def _options(schema: Schema) -> tuple[Any, ...]:
    if "const" in schema:
        return (schema["const"],)
    return tuple(schema.get("enum", ()))


def _bound(schema: Schema, inclusive: str, exclusive: str, inward: int) -> float | None:
    """Return a number's bound; a control knows only inclusive ones, so that of an integer is moved inward by one."""
    if inclusive in schema:
        bound: float = schema[inclusive]
        return bound
    return schema[exclusive] + inward if exclusive in schema else None


def _label(name: str) -> str:
    """Return ``max_runtime_seconds`` as ``Max runtime (seconds)``."""
    words = name.rpartition(".")[2].split("_")
    unit = f" ({words.pop()})" if len(words) > 1 and words[-1] in UNITS else ""
    text = " ".join(words)
    return text[:1].upper() + text[1:] + unit


def _between(minimum: float | None, maximum: float | None) -> str:
    if minimum is None:
        return "" if maximum is None else f"At most {maximum:,}"
    return f"At least {minimum:,}" if maximum is None else f"From {minimum:,} to {maximum:,}"


def _how_typed(kind: Kind) -> str:
    return {Kind.LINES: "One a line", Kind.PAIRS: "One NAME=VALUE a line", Kind.JSON: "As JSON"}.get(kind, "")


def _in_words(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, list):
        return ", ".join(map(str, default))
    return str(default)
