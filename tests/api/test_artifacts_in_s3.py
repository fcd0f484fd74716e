"""Downloads where the store is S3: the API checks and signs, the store gives the bytes."""

from pathlib import Path

import httpx
import pytest
from apiflask import APIFlask

from api.services import services_of
from core.manifest import StoredFile
from core.settings import Settings
from db.session import Database
from db.tables import Execution
from tests.api.conftest import Caller, problem_of
from tests.api.work import Workers
from tests.s3_server import S3Server
from tests.store.conftest import put, sha256

CONTENT = bytes(range(256)) * 100
SHA256 = sha256(CONTENT)


@pytest.fixture
def settings(database_url: str, s3_server: S3Server, tmp_path: Path) -> Settings:
    here = s3_server.settings(f"s3://{s3_server.bucket()}/p", tmp_path, database_url)
    return here.model_copy(update={"source_roots": (Path("/models"),)})


@pytest.fixture
def path(app: APIFlask, caller: Caller, database: Database, tmp_path: Path) -> str:
    """The address of a file that a finished job has made."""
    job_id = caller.submit()["id"]
    put(services_of(app).store, tmp_path, CONTENT)
    Workers(database).do_all([StoredFile("sub/mödel.gguf", SHA256, len(CONTENT))])
    (artifact,) = caller.get(f"/v1/jobs/{job_id}/artifacts").get_json()["data"]
    return f"/v1/jobs/{job_id}/artifacts/{artifact['id']}/files/sub/mödel.gguf"


def test_a_get_is_sent_to_the_store(caller: Caller, path: str) -> None:
    response = caller.get(path)
    assert (response.status_code, response.data) == (307, b"")
    assert response.headers["Cache-Control"] == "no-store"
    given = httpx.get(response.headers["Location"], trust_env=False)
    assert given.content == CONTENT
    assert given.headers["Content-Disposition"].endswith("filename*=UTF-8''m%C3%B6del.gguf")
    assert given.headers["Content-Type"] == "application/octet-stream"


def test_a_range_is_the_stores_to_give(caller: Caller, path: str) -> None:
    place = caller.get(path, Range="bytes=10-19").headers["Location"]
    given = httpx.get(place, headers={"Range": "bytes=10-19"}, trust_env=False)
    assert given.content == CONTENT[10:20]
    assert caller.get(path, Range=f"bytes={len(CONTENT)}-").status_code == 416


def test_what_needs_no_bytes_is_answered_here(caller: Caller, path: str) -> None:
    head = caller.client.head(path, headers=caller.headers)
    assert (head.status_code, head.content_length) == (200, len(CONTENT))
    assert caller.get(path, **{"If-None-Match": f'"{SHA256}"'}).status_code == 304


def test_nobody_else_is_sent_anywhere(caller: Caller, stranger: Caller, path: str) -> None:
    assert stranger.get(path).status_code == 404
    assert caller.client.get(path).status_code == 401
    assert caller.get(path + "x").status_code == 404


def test_a_blob_that_is_lost_is_a_problem_and_noted(
    app: APIFlask, caller: Caller, database: Database, path: str
) -> None:
    services_of(app).store.delete(SHA256)
    response = caller.get(path)
    assert response.status_code == 503
    assert problem_of(response)["code"] == "blob_lost"
    assert database.run(lambda session: session.query(Execution).where(Execution.lost_at.is_not(None)).count()) == 1


def test_a_bucket_that_is_away_loses_nothing(
    app: APIFlask, caller: Caller, database: Database, s3_server: S3Server, path: str
) -> None:
    store, bucket = services_of(app).store, services_of(app).settings.store_url.split("/")[2]
    store.delete(SHA256)
    for listed in s3_server.client().list_objects_v2(Bucket=bucket).get("Contents", []):
        s3_server.client().delete_object(Bucket=bucket, Key=listed["Key"])
    s3_server.client().delete_bucket(Bucket=bucket)
    assert problem_of(caller.get(path))["code"] == "store_failed"
    assert caller.client.get("/readyz").status_code == 503
    assert database.run(lambda session: session.query(Execution).where(Execution.lost_at.is_not(None)).count()) == 0
