"""What a job has made, and the bytes of it."""

import contextlib
import unicodedata
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from apiflask import APIBlueprint
from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from api import pages
from api.auth import team_id
from api.byte_range import ByteRange, wanted_range
from api.openapi import problems
from api.presenting import artifact_object
from api.requests import NoQuery
from api.services import services
from core.errors import BlobLost, NotFound
from db import artifacts, jobs
from db.tables import ArtifactFile

BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

routes = APIBlueprint("artifacts", __name__, url_prefix="/v1", tag="Artifacts")


@routes.get("/jobs/<id:job_id>/artifacts")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(pages.ArtifactPage)
@routes.doc(responses=problems(404, 422))
def list_artifacts(job_id: str, _query: NoQuery) -> Any:
    """List what a job has made."""
    team, database = team_id(), services().database
    database.run(lambda session: jobs.require(session, team, job_id))
    rows = database.run(lambda session: jobs.results(session, team, job_id))
    return pages.ArtifactPage(data=[artifact_object(artifact) for artifact in rows], has_more=False)


@routes.get("/jobs/<id:job_id>/artifacts/<id:artifact_id>/files/<path:name>")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.doc(
    responses={
        200: {"description": "The whole file", **BYTES},
        206: {"description": "The range that was asked for", **BYTES},
        304: {"description": "The file is the one that the client has"},
        307: {
            "description": "The store gives the bytes itself, at an address that is good for some minutes. "
            "Repeat the request there, with the same Range, without the API key",
            "headers": {"Location": {"schema": {"type": "string", "format": "uri"}}},
        },
        **problems(404, 416, 422, 503),
    }
)
def download_file(job_id: str, artifact_id: str, name: str, _query: NoQuery) -> Response:
    """Download a file, whole or one range of it.

    Its ETag is its SHA-256. Where the store can give the bytes itself, a GET is answered with a redirect to it.
    """
    return answer_with_file(job_id, artifact_id, name)


def answer_with_file(job_id: str, artifact_id: str, name: str) -> Response:
    """Return the answer to a request for a file of the team's: all of it, a range, or that it has not changed."""
    file = _find(job_id, artifact_id, name)
    etag = f'"{file.sha256}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Content-Disposition": _disposition(file.name),
        "Cache-Control": "private, no-cache",
    }
    if request.if_none_match.contains_weak(file.sha256):
        return Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    asked = request.range if request.method == "GET" else None  # a range means nothing to another method
    part = wanted_range(asked, request.headers.get("If-Range"), etag, file.size_bytes)
    if part is None:
        raise RequestedRangeNotSatisfiable(file.size_bytes)
    if request.method == "GET" and (url := _address(file)) is not None:
        return Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers={"Location": url, "Cache-Control": "no-store"})
    if part.is_partial:
        headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{file.size_bytes}"
    headers["Content-Length"] = str(part.length)
    body = stored_bytes(file.sha256, part) if request.method == "GET" and part.length else None
    status = HTTPStatus.PARTIAL_CONTENT if part.is_partial else HTTPStatus.OK
    return Response(body, status, headers, mimetype="application/octet-stream")


def _find(job_id: str, artifact_id: str, name: str) -> ArtifactFile:
    team = team_id()
    for artifact in services().database.run(lambda session: jobs.results(session, team, job_id)):
        for file in artifact.files:
            if artifact.id == artifact_id and file.name == name:
                return file
    raise NotFound("There is no such file in this job. GET …/artifacts lists those that there are.")


def _address(file: ArtifactFile) -> str | None:
    with _noting_loss():
        return services().store.download_url(file.sha256, disposition=_disposition(file.name))


def stored_bytes(sha256: str, part: ByteRange) -> Iterator[bytes]:
    """Return the bytes in pieces, the first of them read already: a lost blob is a problem, not a broken download."""
    pieces = services().store.read(sha256, part.start, part.length)
    with _noting_loss():
        first = next(pieces, b"")

    def generate() -> Iterator[bytes]:
        yield first
        yield from pieces

    return generate()


@contextlib.contextmanager
def _noting_loss() -> Iterator[None]:
    """Have what was made of a lost blob made anew when it is wanted again."""
    try:
        yield
    except BlobLost as error:
        sha256 = error.sha256
        services().database.run(lambda session: artifacts.mark_lost(session, sha256))
        raise


def _disposition(name: str) -> str:
    """Return the header that names the file, without its folders; a second, ASCII name is for old clients."""
    base = "".join(character for character in PurePosixPath(name).name if character.isprintable())
    plain = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode()
    plain = plain.replace("\\", "_").replace('"', "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(base, safe='')}"
