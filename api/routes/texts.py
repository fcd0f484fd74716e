"""A team's own texts for calibration: upload, list, read, delete."""

from http import HTTPStatus
from typing import Any

from apiflask import APIBlueprint
from flask import Response, url_for

from api import pages, responses
from api.auth import team_id
from api.openapi import SCHEMAS, problems
from api.presenting import text_object
from api.receiving import receive_text
from api.requests import NoQuery, TextQuery, UploadQuery
from api.services import services
from db import texts

LOCATION = {"Location": {"description": "The text", "schema": {"type": "string"}, "required": True}}
KNOWN = {
    "description": "The team had uploaded these bytes before, and this is that text, with its first name",
    "content": {"application/json": {"schema": {"$ref": f"{SCHEMAS}Text"}}},
    "headers": LOCATION,
}

routes = APIBlueprint("texts", __name__, url_prefix="/v1", tag="Texts")


@routes.post("/texts")
@routes.input(UploadQuery, location="query", arg_name="wanted")
@routes.output(responses.Text, status_code=201)
@routes.doc(responses={200: KNOWN, 201: {"headers": LOCATION}, **problems(400, 413, 415, 422, 429)})
def upload_text(wanted: UploadQuery) -> Response:
    """Upload a text for calibration.

    The body is the text itself, in UTF-8: plain, or JSONL, of which each line is an object with a `text`, or with
    `messages`, each of which has a `role` and a `content`. Messages are written by the model's chat template; where it
    has none, their contents are joined. A recipe names the text by its id, as its `calibration_text`.

    A team may keep so many texts (`texts` of `GET /v1/quotas`); a further one is refused with status 429.
    """
    text, is_new = receive_text(team_id(), wanted.name)
    status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    headers = {"Location": url_for("texts.get_text", text_id=text.id)}
    return Response(text_object(text).model_dump_json(), status, headers, mimetype="application/json")


@routes.get("/texts")
@routes.input(TextQuery, location="query", arg_name="wanted")
@routes.output(pages.TextPage)
@routes.doc(responses=problems(422))
def list_texts(wanted: TextQuery) -> Any:
    """List the team's texts, newest first."""
    team = team_id()
    rows, has_more = services().database.run(lambda session: texts.list_page(session, team, wanted.after, wanted.limit))
    return pages.TextPage(data=[text_object(text) for text in rows], has_more=has_more)


@routes.get("/texts/<id:text_id>")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(responses.Text)
@routes.doc(responses=problems(404, 422))
def get_text(text_id: str, _query: NoQuery) -> Any:
    """Read what is known of a text."""
    team = team_id()
    return text_object(services().database.run(lambda session: texts.get(session, team, text_id)))


@routes.delete("/texts/<id:text_id>")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(responses.DeletedText)
@routes.doc(responses=problems(404, 409, 413, 422))
def delete_text(text_id: str, _query: NoQuery) -> Any:
    """Delete a text that no job needs any more; results that were made with it stay."""
    team = team_id()
    services().database.run(lambda session: texts.remove(session, team, text_id))
    return responses.DeletedText(id=text_id)
