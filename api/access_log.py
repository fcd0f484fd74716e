"""One line in the log for each request, under an id that its answer carries too. Never a query, a header or a body."""

import re
import time

import structlog
from flask import Flask, Response, g, request

from core.ids import new_id
from core.logging import log

REQUEST_ID_HEADER = "X-Request-Id"
_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def install(app: Flask) -> None:
    """Give each request an id, and log it when its answer has been sent to the end."""
    app.before_request(_begin)
    app.after_request(_answered)


def _begin() -> None:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    g.request_id = given if _USABLE_ID.fullmatch(given) else new_id("req")
    g.started = time.monotonic()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _answered(response: Response) -> Response:
    response.headers[REQUEST_ID_HEADER] = g.request_id
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    line = log.bind(
        method=request.method,
        path=request.path,
        endpoint=request.endpoint,
        status=response.status_code,
        team_id=g.get("team_id"),
        request_id=g.request_id,
    )
    started = g.started
    # A stream is answered long before it ends: its line comes then.
    response.call_on_close(lambda: line.info("request", seconds=round(time.monotonic() - started, 4)))
    return response
