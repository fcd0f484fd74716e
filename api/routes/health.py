"""Whether the process lives, and whether it can work. Open to all: they say nothing else."""

from typing import Any

from apiflask import APIBlueprint
from werkzeug.exceptions import ServiceUnavailable

from api import responses
from api.openapi import problems
from api.services import services
from core.errors import StoreFailed
from core.logging import log
from db import schema

routes = APIBlueprint("health", __name__, tag="Health")


@routes.get("/healthz")
@routes.output(responses.Health)
def healthz() -> Any:
    """Say that the process answers."""
    return responses.Health()


@routes.get("/readyz")
@routes.output(responses.Health)
@routes.doc(responses=problems(503))
def readyz() -> Any:
    """Say whether Postgres, at the newest schema, and the store can be used."""
    if not services().database.run(schema.is_current):
        raise ServiceUnavailable("The database's schema is not the one of this version. Run 'fewbitsd migrate'.")
    try:
        services().store.check()
    except StoreFailed as error:
        log.error("the store cannot be used", error=error.message)  # names folders, which not everybody may know
        raise ServiceUnavailable("The store cannot be used. The server's log tells why.") from error
    return responses.Health()
