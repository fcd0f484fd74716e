"""The JSON Schemas of the documents that come with results. Nothing of this place or of any team is in them."""

from typing import Any

from apiflask import APIBlueprint

from api.openapi import problems
from api.requests import NoQuery
from pipeline.provenance import PROVENANCE_NAME, json_schema

ANSWER = {
    "description": "JSON Schema, draft 2020-12",
    "content": {"application/json": {"schema": {"type": "object"}}},
}

routes = APIBlueprint("schemas", __name__, url_prefix="/v1", tag="Schemas")


@routes.get(f"/schemas/{PROVENANCE_NAME}")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.doc(responses={200: ANSWER, **problems(422)})
def provenance(_query: NoQuery) -> Any:
    """Read the schema of fewbits.json, which says where a result comes from."""
    return json_schema()
