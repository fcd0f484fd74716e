"""Who asks: every request acts for the team of its key, every page for the key that its browser signed in with.

Default deny, so that no route can forget it. A cookie is good for pages alone: what another site makes a browser send
to the API does nothing.
"""

from collections.abc import Callable
from functools import partial

from flask import Flask, g, request
from sqlalchemy.orm import Session

from api.portal import browser
from api.services import services
from core.errors import NotAuthenticated
from core.ids import TeamId
from db import keys, portal_sessions

# The only endpoints that answer without a key or a session.
OPEN_ENDPOINTS = frozenset(
    {
        *("health.healthz", "health.readyz", "openapi.spec", "docs.page", "docs.asset"),
        *("portal.sign_in", "portal.static"),
    }
)


def install(app: Flask) -> None:
    """Ask for a key before anything else is said, even whether an address exists."""
    app.before_request(_authenticate)


def team_id() -> TeamId:
    """Return the team that the current request acts for."""
    team: TeamId = g.team_id
    return team


def still_allowed() -> Callable[[Session], object]:
    """Return a check that the current request's key or session is still good, for an answer that goes on for long."""
    check: Callable[[Session], object] = g.still_allowed
    return check


def _authenticate() -> None:
    if request.endpoint in OPEN_ENDPOINTS:
        return
    if browser.wants_page():
        g.still_allowed = partial(portal_sessions.authenticate, cookie=browser.session_cookie())
        g.member = services().database.run(g.still_allowed)
        g.team_id = g.member.team_id
    else:
        g.still_allowed = partial(keys.authenticate, key=_key())
        g.team_id = services().database.run(g.still_allowed)


def _key() -> str:
    given = request.authorization
    if given is None or given.type != "bearer" or not given.token:
        raise NotAuthenticated("Send an API key, as 'Authorization: Bearer fb_…'.")
    return given.token
