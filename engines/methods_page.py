"""``docs/methods.md``, made of what the methods say of themselves: ``python -m engines.methods_page``."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from engines import methods, serving
from engines.methods.base import Method, registered
from engines.recipe import parse_recipe, preset_recipe
from engines.serving.table import RULES, RUNTIMES

HEADER = """\
# Methods

What can be asked for, and with what. This page is printed by `python -m engines.methods_page` (`make docs`) from the
methods themselves; `fewbits methods` and `GET /v1/methods` say the same of the server that you ask.

A recipe is a short form, such as `gguf:Q4_K_M`, or JSON with the method and any of its parameters, such as
`{"method": "gptq", "bits": 8, "group_size": -1}`.
"""

SERVING = """\
## What serves the results

Read in the sources of each runtime, at the version that is named, and not tried here; a newer version may serve more,
or less. What is said holds for single matrices whose sizes are multiples of 128: what runs all experts of a layer at
once has limits of its own. That a runtime knows the model's architecture is taken for granted. A number behind a GPU's
name is its compute capability. A recipe that no server of these serves is warned of when it is submitted; transformers
is none, for one user at a time. A job's result, its page and `fewbits inspect` say what serves it.
"""

LISTED_MAX = 32  # values in a cell; more are listed below the table
LINE_CHARACTERS = 120

WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "`true` or `false`",
    "null": "`null`",
}
LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "maxLength": "of at most {} characters",
}


def page() -> str:
    """Return the page's text."""
    methods.load()
    own = [method for method in registered().values() if type(method).__module__.startswith(methods.__name__)]
    known = sorted(own, key=lambda method: method.name)
    return "\n".join([HEADER, *(line for method in known for line in _section(method)), SERVING, *_serving()])


def _serving() -> Iterator[str]:
    """Yield the table of runtimes, with its sources numbered below it."""
    numbers: dict[str, int] = {}
    yield "| runtime | format | what | on | by | sources |\n|---|---|---|---|---|---|"
    for rule in RULES:
        what = "; ".join(f"`{name}` {serving.served(name, values)}" for name, values in rule.takes.items())
        cited = ", ".join(str(numbers.setdefault(source, len(numbers) + 1)) for source in rule.sources)
        runtime = f"{rule.runtime} {RUNTIMES[rule.runtime].version}"
        cells = [runtime, rule.format, what or "all", serving.gpus(rule), rule.how, cited]
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"
    yield ""
    for source, number in numbers.items():
        package, _, path = source.partition(": ")
        yield f"{number}. {package}: `{path}`"
    for name, about in RUNTIMES.items():
        for source in about.otherwise:
            yield f"\n{name} reads no other format ({source})."
    yield ""


def _section(method: Method) -> Iterator[str]:
    default = parse_recipe(method.name)
    yield f"## {method.name}\n"
    yield f"{method.summary}\n"
    yield f"- Done by {method.engine(default.params)}, in the `{method.pool}` pool"
    yield f"- Writes {method.writes(default.params)}"
    yield f"- Broken off, it {method.broken_off(default.params)}"
    yield f"- The bare name stands for `{default.short}`\n"
    if method.presets:
        yield "| preset | why |\n|---|---|"
        for preset in method.presets:
            yield f"| `{preset_recipe(method, preset)[0]}` | {preset.why} |"
        yield ""
    yield "| parameter | values | default | meaning |\n|---|---|---|---|"
    schema = method.schema()
    definitions = schema.get("$defs", {})
    for name, field in schema["properties"].items():
        values = _cell(_values(field, definitions))
        yield f"| `{name}` | {values} | {_default(field)} | {_cell(field.get('description', ''))} |"
    yield ""
    for name, field in schema["properties"].items():
        for names in _long_lists(field, definitions):
            yield f"The {len(names)} names for `{name}`:\n"
            yield textwrap.fill(", ".join(map(_value, names)), LINE_CHARACTERS, break_on_hyphens=False)
            yield ""


def _long_lists(field: Any, definitions: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Yield the enumerations in a JSON Schema that are too long for a cell."""
    match field:
        case {"$ref": reference}:
            yield from _long_lists(definitions[reference.rpartition("/")[2]], definitions)
        case {"enum": values} if len(values) > LISTED_MAX:
            yield values
        case dict():
            for inner in field.values():
                yield from _long_lists(inner, definitions)
        case list():
            for inner in field:
                yield from _long_lists(inner, definitions)


def _values(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return in words which values a JSON Schema takes."""
    match field:
        case {"$ref": reference}:
            words = _values(definitions[reference.rpartition("/")[2]], definitions)
        case {"anyOf": choices}:
            words = " or ".join(_values(choice, definitions) for choice in choices)
        case {"const": value}:
            words = _value(value)
        case {"enum": values} if len(values) > LISTED_MAX:
            words = f"one of the {len(values)} names below"
        case {"enum": values}:
            words = ", ".join(_value(value) for value in values)
        case {"type": "array", "items": items}:
            words = f"a list of: {_values(items, definitions)}"
        case {"type": "object", "properties": inner}:
            words = "an object with " + "; ".join(f"`{key}`: {_values(inner[key], definitions)}" for key in inner)
        case {"type": "object", "additionalProperties": inner}:
            words = f"an object, each value {_values(inner, definitions)}"
        case _:
            limits = [words.format(field[name]) for name, words in LIMITS.items() if name in field]
            words = " ".join([WORDS[field["type"]], *limits])
    return words


def _value(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _default(field: Mapping[str, Any]) -> str:
    return _value(field["default"]) if "default" in field else "required"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - a program whose output is printed text
