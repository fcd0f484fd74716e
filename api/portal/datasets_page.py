"""The team's own datasets, newest first: upload one, copy its id, delete it."""

from functools import partial
from http import HTTPStatus
from typing import Any

from flask import request, url_for
from pydantic import Field, ValidationError, field_validator
from sqlalchemy import select

from api.auth import team_id
from api.portal.answers import Errors
from api.portal.blueprint import page, routes, see
from api.presenting import dataset_object
from api.quotas import default_quotas
from api.receiving import SUFFIXES, receive_file
from api.requests import DatasetQuery, Id, Limit, UploadQuery
from api.services import services
from core.dataset_kinds import DatasetKind
from core.errors import Conflict, RequestError
from db import clock, datasets, quotas
from engines.datasets import EXAMPLES

DATASETS_ON_A_PAGE = 25
LABELS = {"file": "File", "name": "Name"}
KINDS = {
    DatasetKind.TEXT: "plain text",
    DatasetKind.DOCUMENTS: "documents",
    DatasetKind.CHAT: "conversations",
    DatasetKind.COMPLETION: "completions",
    DatasetKind.MULTIPLE_CHOICE: "multiple choice",
    DatasetKind.REFERENCE: "prompts with references",
    DatasetKind.CODE: "programs with tests",
}


class DatasetsPageQuery(DatasetQuery):
    """Which datasets the page shows, and what has just been done."""

    limit: Limit = Field(default=DATASETS_ON_A_PAGE)
    uploaded: Id | None = Field(default=None, description="The dataset that was uploaded")
    known: bool = Field(default=False, description="Whether the team had it before")
    deleted: Id | None = Field(default=None, description="The dataset that was deleted")

    @field_validator("after", "uploaded", "deleted", "kind", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None


@routes.get("/datasets", endpoint="datasets")
@routes.input(DatasetsPageQuery, location="query", arg_name="wanted")
def list_datasets(wanted: DatasetsPageQuery) -> Any:
    """Show the datasets."""
    return _page(wanted)


@routes.post("/datasets")
def upload_dataset() -> Any:
    """Take the file that was chosen, or show what is wrong with it."""
    file, name = request.files.get("file"), request.form.get("name", "").strip()
    if file is None or not file.filename:
        return _refuse({"file": "Choose a file."}, name)
    try:
        called = UploadQuery(name=name or file.filename)
    except ValidationError as error:
        return _refuse({"name": error.errors(include_url=False)[0]["msg"]}, name)
    try:
        dataset, is_new = receive_file(team_id(), called.name, file)
    except RequestError as error:
        return _refuse({"file": error.message}, name)
    return see(url_for("portal.datasets", uploaded=dataset.id, known=None if is_new else 1))


@routes.post("/datasets/<id:dataset_id>/delete")
def delete_dataset(dataset_id: str) -> Any:
    """Delete the dataset, or say which job needs it."""
    team, database = team_id(), services().database
    try:
        database.run(lambda session: datasets.remove(session, team, dataset_id))
    except Conflict as error:
        refusal = {
            "message": error.message,
            "dataset": dataset_object(database.run(lambda session: datasets.get(session, team, dataset_id))),
            "job_id": database.run(lambda session: datasets.needed_by(session, team, dataset_id)),
        }
        return _page(DatasetsPageQuery(), refusal=refusal, status=HTTPStatus.CONFLICT)
    return see(url_for("portal.datasets", deleted=dataset_id))


def _refuse(errors: Errors, name: str) -> Any:
    return _page(DatasetsPageQuery(), HTTPStatus.UNPROCESSABLE_ENTITY, errors=errors, name=name)


def _page(wanted: DatasetsPageQuery, status: int = HTTPStatus.OK, **told: Any) -> Any:
    """Return the page, ``told`` what could not be done: errors of the form and the name in it, a refusal to delete."""
    team, run, settings = team_id(), services().database.run, services().settings
    kinds = [wanted.kind] if wanted.kind else []
    rows, has_more = run(lambda session: datasets.list_page(session, team, wanted.after, wanted.limit, kinds))
    asked_for = {name: dataset for name, dataset in request.args.items() if name in ("limit", "kind")}
    known = {
        "datasets": [dataset_object(dataset) for dataset in rows],
        "older": {**asked_for, "after": rows[-1].id} if has_more else None,
        "newest": asked_for if wanted.after else None,
        "share": run(partial(quotas.datasets_share, team_id=team, defaults=default_quotas(settings))),
        "size_bytes_max": settings.dataset_bytes_max,
        "suffixes": ",".join(SUFFIXES),
        "labels": LABELS,
        "kinds": KINDS,
        "examples": EXAMPLES,
        "wanted": wanted,
        "notice": _notice(wanted),
        "now": run(lambda session: session.scalar(select(clock.now()))),
    }
    return page("datasets.html", status, **{**known, "errors": {}, "name": "", "refusal": None, **told})


def _notice(wanted: DatasetsPageQuery) -> Any:
    """Return what has just been done, None where nothing was, or where it is not so any more."""
    team, run = team_id(), services().database.run
    if wanted.uploaded:
        dataset = run(lambda session: datasets.find(session, team, str(wanted.uploaded)))
        return dataset and {"dataset": dataset_object(dataset), "known": wanted.known}
    if wanted.deleted and run(lambda session: datasets.find(session, team, str(wanted.deleted))) is None:
        return {"dataset": None, "id": wanted.deleted}
    return None
