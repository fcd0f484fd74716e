"""Models: a look at one before anything is asked for."""

from typing import Any

from apiflask import APIBlueprint

from api.inspecting import Model, model_object
from api.openapi import problems
from api.requests import InspectRequest, NoQuery
from api.services import services
from pipeline.precheck import inspect_model
from pipeline.sources import check_source

routes = APIBlueprint("models", __name__, url_prefix="/v1", tag="Models")


@routes.post("/models/inspect")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.input(InspectRequest, arg_name="wanted")
@routes.output(Model)
@routes.doc(responses=problems(400, 413, 415, 422))
def inspect_a_model(wanted: InspectRequest, _query: NoQuery) -> Any:
    """Look at a model.

    Only headers and small files are read, and nothing is computed or kept. The answer says what the model is, and which
    methods go with it, or why they do not. A source that only workers see is refused here; a job for it is not.
    """
    roots = services().settings.source_roots
    source = check_source(wanted.source, roots)
    return model_object(source, inspect_model(source, roots))
