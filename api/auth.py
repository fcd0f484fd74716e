"""Who asks: every request acts for the team of its key. Default deny, so that no route can forget it."""

from collections.abc import Callable
from functools import partial

from flask import Flask, g, request
from sqlalchemy.orm import Session

from api.services import services
from core.errors import NotAuthenticated
from core.ids import TeamId
from db import keys

# The only endpoints that answer without a key.
OPEN_ENDPOINTS = frozenset({"health.healthz", "health.readyz", "openapi.spec", "docs.page", "docs.asset"})


def install(app: Flask) -> None:
    """Ask for a key before anything else is said, even whether an address exists."""
    app.before_request(_authenticate)


def team_id() -> TeamId:
    """Return the team that the current request acts for."""
    team: TeamId = g.team_id
    return team


def still_allowed() -> Callable[[Session], object]:
    """Return a check that the current request's key is still good, for an answer that goes on for long."""
    return partial(keys.authenticate, key=g.key)


def _authenticate() -> None:
    if request.endpoint in OPEN_ENDPOINTS:
        return
    given = request.authorization
    if given is None or given.type != "bearer" or not given.token:
        raise NotAuthenticated("Send an API key, as 'Authorization: Bearer fb_…'.")
    g.key = given.token
    g.team_id = services().database.run(partial(keys.authenticate, key=given.token))
