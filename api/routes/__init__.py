"""One file for each kind of object: parse, one verb, respond."""

from apiflask import APIBlueprint
from werkzeug.routing import BaseConverter

from api.requests import ID
from api.routes import (
    artifacts,
    datasets,
    docs,
    events,
    health,
    jobs,
    methods,
    models,
    plans,
    quotas,
    reports,
    schemas,
    sweeps,
)

BLUEPRINTS: tuple[APIBlueprint, ...] = (
    jobs.routes,
    sweeps.routes,
    reports.routes,
    plans.routes,
    events.routes,
    artifacts.routes,
    methods.routes,
    models.routes,
    schemas.routes,
    datasets.routes,
    quotas.routes,
    health.routes,
    docs.routes,
)


class IdConverter(BaseConverter):
    """Takes what can be an id, so that no other text reaches Postgres: it refuses NUL, for one."""

    regex = ID
