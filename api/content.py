"""What may come with a request: JSON, not too much of it, and no parameter twice; or a file, where one is expected."""

from flask import Flask, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, UnsupportedMediaType

from api.receiving import expect_file
from core.errors import InvalidRequest

BODY_BYTES_MAX = 2**20
# The only endpoints that take something else; they look at it themselves.
FILE_ENDPOINTS = frozenset({"datasets.upload_dataset", "portal.upload_dataset"})


def install(app: Flask) -> None:
    """Look at each request's headers and query before its route does."""
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    app.before_request(_check)


def _check() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    takes_body = "body" in getattr(view, "_spec", {})
    if request.method == "OPTIONS":
        return
    if takes_body and not request.is_json:
        raise UnsupportedMediaType
    is_too_large = (request.content_length or 0) > BODY_BYTES_MAX or (takes_body and _is_endless())
    if request.endpoint in FILE_ENDPOINTS:
        expect_file()
    elif is_too_large:
        raise RequestEntityTooLarge
    for name, values in request.args.lists():
        if len(values) > 1:
            raise InvalidRequest(f"The parameter {name[:64]!r} is given more than once.", param=name[:64])


def _is_endless() -> bool:
    """Return whether a body of no declared length goes on behind the limit, where Werkzeug silently cuts it off."""
    if request.content_length is not None or not request.environ.get("wsgi.input_terminated"):
        return False
    try:
        request.get_data()  # kept for the route
        return bool(request.environ["wsgi.input"].read(1))
    except HTTPException:
        raise
    except Exception as error:  # each server has errors of its own for chunks that are malformed
        raise BadRequest from error
