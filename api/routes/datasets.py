"""A team's own datasets: upload, list, read, delete."""

from http import HTTPStatus
from typing import Any

from apiflask import APIBlueprint
from flask import Response, url_for

from api import pages, responses
from api.auth import team_id
from api.openapi import SCHEMAS, problems
from api.presenting import dataset_object
from api.receiving import receive_dataset
from api.requests import DatasetQuery, NoQuery, UploadQuery
from api.services import services
from db import datasets

LOCATION = {"Location": {"description": "The dataset", "schema": {"type": "string"}, "required": True}}
KNOWN = {
    "description": "The team had uploaded these bytes before, and this is that dataset, with its first name",
    "content": {"application/json": {"schema": {"$ref": f"{SCHEMAS}Dataset"}}},
    "headers": LOCATION,
}

routes = APIBlueprint("datasets", __name__, url_prefix="/v1", tag="Datasets")


@routes.post("/datasets")
@routes.input(UploadQuery, location="query", arg_name="wanted")
@routes.output(responses.Dataset, status_code=201)
@routes.doc(responses={200: KNOWN, 201: {"headers": LOCATION}, **problems(400, 413, 415, 422, 429)})
def upload_dataset(wanted: UploadQuery) -> Response:
    """Upload a dataset, for calibration or to be judged on.

    The body is the dataset itself, in UTF-8: plain text, or JSONL, of which each line is an object. What the lines have
    makes the dataset's `kind`, and all must be of one kind; fields beside these are passed over.

    | kind | a line |
    |---|---|
    | `documents` | `{"text": "…"}` |
    | `chat` | `{"messages": [{"role": "user", "content": "…"}, …]}` |
    | `completion` | `{"prompt": "…", "completion": "…"}` |
    | `multiple_choice` | `{"question": "…", "choices": ["…", "…"], "answer": 0}` |
    | `reference` | `{"prompt": "…", "reference": "…"}` |
    | `code` | `{"prompt": "…", "tests": "…"}` |

    Messages are written by the model's chat template; where it has none, their contents are joined. Of a completion
    only the completion is scored. A question has 2 to 26 choices, and `answer` is the place of the right one, from 0.
    Of `code` the prompt is the beginning of a Python program, and the tests stand after the program that the model has
    finished: `assert add(1, 2) == 3`. A job may name it as a task only where the operator allows programs to be run.

    A recipe names a dataset of kind `text`, `documents` or `chat` by its id, as its `calibration_text`. A dataset is
    never changed: its `sha256` is its version, and the same bytes uploaded again are the same dataset (status 200).

    A team may keep so many datasets (`datasets` of `GET /v1/quotas`); a further one is refused with status 429.
    """
    dataset, is_new = receive_dataset(team_id(), wanted.name)
    status = HTTPStatus.CREATED if is_new else HTTPStatus.OK
    headers = {"Location": url_for("datasets.get_dataset", dataset_id=dataset.id)}
    return Response(dataset_object(dataset).model_dump_json(), status, headers, mimetype="application/json")


@routes.get("/datasets")
@routes.input(DatasetQuery, location="query", arg_name="wanted")
@routes.output(pages.DatasetPage)
@routes.doc(responses=problems(422))
def list_datasets(wanted: DatasetQuery) -> Any:
    """List the team's datasets, newest first."""
    team = team_id()
    kinds = [wanted.kind] if wanted.kind else []
    rows, has_more = services().database.run(
        lambda session: datasets.list_page(session, team, wanted.after, wanted.limit, kinds)
    )
    return pages.DatasetPage(data=[dataset_object(dataset) for dataset in rows], has_more=has_more)


@routes.get("/datasets/<id:dataset_id>")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(responses.Dataset)
@routes.doc(responses=problems(404, 422))
def get_dataset(dataset_id: str, _query: NoQuery) -> Any:
    """Read what is known of a dataset."""
    team = team_id()
    return dataset_object(services().database.run(lambda session: datasets.get(session, team, dataset_id)))


@routes.delete("/datasets/<id:dataset_id>")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(responses.DeletedDataset)
@routes.doc(responses=problems(404, 409, 413, 422))
def delete_dataset(dataset_id: str, _query: NoQuery) -> Any:
    """Delete a dataset that no job needs any more; results that were made with it stay."""
    team = team_id()
    services().database.run(lambda session: datasets.remove(session, team, dataset_id))
    return responses.DeletedDataset(id=dataset_id)
