"""Sign in with a key, and out."""

from functools import partial
from http import HTTPStatus
from typing import Any

from flask import request, url_for

from api.portal import browser
from api.portal.blueprint import page, routes, see
from api.services import services
from core.errors import NotAuthenticated
from db import portal_sessions


@routes.get("/")
def home() -> Any:
    """Go on to where the portal starts."""
    return see(url_for("portal.jobs"))


@routes.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Any:
    """Show the form, or take what was put into it."""
    next_page = browser.own_page(request.values.get("next", ""))
    if request.method != "POST":
        return page("sign_in.html", next_page=next_page, error=None)
    key = request.form.get("key", "").strip()
    try:
        cookie = services().database.run(partial(portal_sessions.sign_in, key=key, seconds=browser.SESSION_SECONDS))
    except NotAuthenticated as error:
        return page("sign_in.html", HTTPStatus.UNPROCESSABLE_ENTITY, next_page=next_page, error=error.message)
    answer = see(next_page)
    browser.remember(answer, cookie)
    return answer


@routes.post("/sign-out")
def sign_out() -> Any:
    """End the session."""
    cookie = browser.session_cookie()
    services().database.run(partial(portal_sessions.sign_out, cookie=cookie))
    answer = see(url_for("portal.sign_in"))
    browser.forget(answer)
    return answer
