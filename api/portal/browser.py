"""What a browser sends along: the cookie of its session, and the proof that a form was one of ours."""

import hashlib
import hmac
import re

from flask import Response, request

from api.event_stream import EVENT_STREAM
from core.errors import InvalidRequest, NotAuthenticated

PORTAL = "portal"  # the blueprint's name
SESSION_COOKIE = "fewbits_session"
SESSION_SECONDS = 12 * 3600
FORM_TOKEN = "form_token"  # noqa: S105 - the field's name
START = "/jobs"

_OWN_PAGE = re.compile(r"/(?:jobs|sweeps|datasets)(?:/[A-Za-z0-9_/]*)?(?:\?[A-Za-z0-9_=&%.:/+-]*)?")


def wants_page() -> bool:
    """Return whether the answer is for a person: an address of the portal, or one that leads nowhere in a browser."""
    if request.endpoint is None:
        return any(media_type == "text/html" for media_type, _ in request.accept_mimetypes)
    return request.blueprint == PORTAL


def wants_events() -> bool:
    """Return whether a script follows a job: it takes a stream, and a problem as a problem."""
    return request.headers.get("Accept") == EVENT_STREAM


def session_cookie() -> str:
    """Return the cookie of the browser's session.

    Raises:
        NotAuthenticated: there is none.
    """
    cookie = request.cookies.get(SESSION_COOKIE)
    if not cookie:
        raise NotAuthenticated("Sign in first.")
    return cookie


def remember(response: Response, cookie: str) -> None:
    """Have the browser keep its session, out of reach of scripts and of other sites."""
    # Who claims to have come by HTTPS only keeps their own cookie from being sent without it.
    secure = request.is_secure or request.headers.get("X-Forwarded-Proto") == "https"
    response.set_cookie(
        SESSION_COOKIE, cookie, max_age=SESSION_SECONDS, httponly=True, samesite="Lax", secure=secure, path="/"
    )


def forget(response: Response) -> None:
    """Have the browser drop its session."""
    response.delete_cookie(SESSION_COOKIE, path="/")


def form_token() -> str:
    """Return what every form of this session carries: nobody can tell it who does not hold the cookie."""
    return hmac.new(session_cookie().encode(), FORM_TOKEN.encode(), hashlib.sha256).hexdigest()


def refuse_foreign_form() -> None:
    """Refuse what another site had the browser send.

    Raises:
        InvalidRequest: the form was not one of ours, or is one of an earlier session.
    """
    if not _is_from_here():
        raise InvalidRequest("This form was sent from another site. Nothing was done.")
    if request.endpoint == f"{PORTAL}.sign_in":
        return  # there is no session yet that its form could be of
    if not hmac.compare_digest(request.form.get(FORM_TOKEN, "").encode(), form_token().encode()):
        raise InvalidRequest("This form is one of an earlier session. Go back, reload the page, and send it again.")


def own_page(wanted: str) -> str:
    """Return a page to go on to: ``wanted`` if that is one of the portal's, else where it starts."""
    return wanted if _OWN_PAGE.fullmatch(wanted) else START


def _is_from_here() -> bool:
    """Return whether the browser says that a page of this host sent the request; old ones say nothing."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == request.host
