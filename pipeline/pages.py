"""HTML pages that need nothing but themselves: what a page says is escaped, and a picture stands in it as it is."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """Return a page made of a template and of plain values."""
    return _environment().get_template(template).render(**values)


def picture(svg: str) -> Markup:
    """Return a picture of ``pipeline.pictures``, whose words are escaped already."""
    return Markup(svg)  # noqa: S704 - written by this program


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pipeline"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
