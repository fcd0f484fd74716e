"""The methods that there are, with the JSON Schemas of their parameters."""

from typing import Any

from apiflask import APIBlueprint

from api import pages
from api.openapi import problems
from api.presenting import method_object
from api.requests import NoQuery
from engines.methods.base import registered

routes = APIBlueprint("methods", __name__, url_prefix="/v1", tag="Methods")


@routes.get("/methods")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(pages.MethodPage)
@routes.doc(responses=problems(422))
def list_methods(_query: NoQuery) -> Any:
    """List the methods."""
    methods = sorted(registered().values(), key=lambda method: method.name)
    return pages.MethodPage(data=[method_object(method) for method in methods], has_more=False)
