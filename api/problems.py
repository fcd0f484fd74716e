"""Every error as a problem document (RFC 9457), whoever raised it: our tree, Flask, Pydantic, Postgres or a bug."""

import contextlib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from apiflask.exceptions import HTTPError
from flask import Flask, Response, current_app, g, request
from pydantic import BaseModel, Field, ValidationError
from werkzeug.exceptions import BadRequest, HTTPException

from api.strict_json import Location, UnusableText
from core.errors import (
    Conflict,
    ContentTooLarge,
    FewbitsError,
    MediaTypeUnknown,
    NotAuthenticated,
    NotFound,
    QuotaExceeded,
    RequestError,
    StoreFailed,
)
from core.logging import log
from db.session import UNAVAILABLE

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
UNREAD_BYTES_MAX = 32 * 2**20
PIECE_BYTES = 2**16

# Looked up by class, the most particular first; every other RequestError is a request that cannot be processed.
_STATUSES: Mapping[type[FewbitsError], HTTPStatus] = {
    NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    ContentTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MediaTypeUnknown: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    RequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    StoreFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    FewbitsError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
# Code and detail of the errors that Werkzeug raises; its own words speak of pages and URLs.
_HTTP: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The request is not well-formed HTTP."),
    404: ("not_found", "There is nothing at this address. /docs shows what there is."),
    405: ("method_not_allowed", "This address does not take that method; the header Allow names those that it takes."),
    413: ("content_too_large", "The body is larger than 1 MiB."),
    415: ("unsupported_media_type", "Send JSON, with the header Content-Type: application/json."),
    416: ("range_not_satisfiable", "No byte of the file is in this range; Content-Range says how many there are."),
}


class ProblemError(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer into the body, or to a parameter; empty for the whole")
    detail: str


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ProblemError] = []


def install(app: Flask) -> None:
    """Answer every error of an application with a problem."""
    app.register_error_handler(FewbitsError, _on_our_error)
    app.register_error_handler(HTTPError, _on_invalid_input)
    app.register_error_handler(HTTPException, _on_http_exception)
    for unavailable in UNAVAILABLE:
        app.register_error_handler(unavailable, _on_postgres_away)
    app.register_error_handler(Exception, _on_bug)


def pointer(location: Location) -> str:
    """Return the JSON pointer (RFC 6901) to a place in a document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _respond(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Iterable[ProblemError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    document = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=quote(request.path),
        code=code,
        errors=list(errors),
    )
    _discard_body()
    body = current_app.json.dumps(document.model_dump(exclude_defaults=True))
    response = Response(body, status, headers, mimetype=MEDIA_TYPE)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _discard_body() -> None:
    """Read what the client still sends: a connection closed over unread bytes is reset, and the answer is lost."""
    if not request.environ.get("wsgi.input_terminated"):
        return  # the server does not end the stream by itself, so reading on could wait for ever
    left = UNREAD_BYTES_MAX
    with contextlib.suppress(Exception):  # each server has errors of its own for a body that is malformed
        while left > 0 and (piece := request.environ["wsgi.input"].read(PIECE_BYTES)):
            left -= len(piece)


def _on_our_error(error: FewbitsError) -> Response:
    status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", code=error.code, error=error.message)
    errors = []
    if isinstance(error, UnusableText):
        errors.append(ProblemError(pointer=pointer(error.location), detail=error.message))
    elif error.param is not None:
        errors.append(ProblemError(pointer=pointer(tuple(error.param.split("."))), detail=error.message))
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="fewbits"'
    return _respond(status, error.code, error.message, errors=errors, headers=headers)


def _on_invalid_input(error: HTTPError) -> Response:
    """Answer APIFlask's errors, whose cause is Pydantic's where an input was not valid."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return _respond(error.status_code, "http_error", str(error.message))
    given = request.get_json(silent=True) if "json" in error.detail else request.args
    errors = [
        ProblemError(pointer=pointer(_location(found["loc"], given, found["type"])), detail=found["msg"])
        for found in cause.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return _respond(422, "invalid_request", f"{first.pointer or 'body'}: {first.detail}{more}", errors=errors)


def _location(found: Location, given: Any, kind: str) -> Location:
    """Leave out of Pydantic's location what names a branch of the model and not a place in the document."""
    location: list[str | int] = []
    for part in found:
        is_there = part in given if isinstance(given, Mapping) else isinstance(given, list) and isinstance(part, int)
        if is_there:
            given = given[part]
        elif kind == "missing" and part == found[-1]:
            given = None
        else:
            continue
        location.append(part)
    return tuple(location)


def _on_http_exception(error: HTTPException) -> Response:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    code, detail = _HTTP.get(status, ("unavailable", str(error.description)))  # the rest is a 503 of our own
    if isinstance(error, BadRequest) and isinstance(error.__cause__, BadRequest):
        detail = f"The body is not JSON. {error.__cause__.description}"
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return _respond(status, code, detail, headers=headers)


def _on_postgres_away(error: Exception) -> Response:
    log.warning("postgres did not answer", error=type(error).__name__)
    return _respond(503, "unavailable", "The database does not answer at the moment. Try again in some seconds.")


def _on_bug(error: Exception) -> Response:
    log.exception("request failed", exc_info=error)
    detail = f"The server failed. Its log tells why, beside the request id {g.get('request_id', 'unknown')}."
    return _respond(500, FewbitsError.code, detail)
