import hashlib
from pathlib import Path

import pytest
from apiflask import APIFlask

from api.services import services_of
from core.manifest import StoredFile
from db.session import Database
from tests.api.conftest import Caller, problem_of
from tests.api.work import Workers

CONTENT = bytes(range(256)) * 8192  # two megabytes, more than one piece
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = 'sub/mödel "Q4".gguf'
SIZE = len(CONTENT)


@pytest.fixture
def path(app: APIFlask, caller: Caller, database: Database, tmp_path: Path) -> str:
    """The address of a file that a finished job has made, without its name."""
    job_id = caller.submit()["id"]
    arrived = tmp_path / "arrived"
    empty = hashlib.sha256(b"").hexdigest()
    for content, sha256 in ((CONTENT, SHA256), (b"", empty)):
        arrived.write_bytes(content)
        services_of(app).store.put(arrived, sha256)
    Workers(database).do_all([StoredFile(NAME, SHA256, SIZE), StoredFile("empty", empty, 0)])
    artifacts = caller.get(f"/v1/jobs/{job_id}/artifacts").get_json()["data"]
    assert len(artifacts) == 1
    assert artifacts[0]["digest"] == "sha256:" + "d" * 64
    assert artifacts[0]["size_bytes"] == SIZE
    assert {file["name"]: file["sha256"] for file in artifacts[0]["files"]} == {NAME: SHA256, "empty": empty}
    return f"/v1/jobs/{job_id}/artifacts/{artifacts[0]['id']}/files/"


def test_a_whole_file(caller: Caller, path: str) -> None:
    response = caller.get(path + NAME)
    assert response.status_code == 200
    assert response.data == CONTENT
    assert response.content_length == SIZE
    assert response.headers["ETag"] == f'"{SHA256}"'
    assert response.headers["Accept-Ranges"] == "bytes"
    disposition = response.headers["Content-Disposition"]
    assert disposition == "attachment; filename=\"model _Q4_.gguf\"; filename*=UTF-8''m%C3%B6del%20%22Q4%22.gguf"


def test_ranges(caller: Caller, path: str, subtests: pytest.Subtests) -> None:
    ranges = {
        "bytes=0-0": (0, 1),
        "bytes=10-19": (10, 20),
        "bytes=1048570-1048590": (1048570, 1048591),
        f"bytes={SIZE - 5}-": (SIZE - 5, SIZE),
        f"bytes={SIZE - 5}-{SIZE * 9}": (SIZE - 5, SIZE),
        "bytes=-5": (SIZE - 5, SIZE),
        f"bytes=-{SIZE * 9}": (0, SIZE),
    }
    for asked, (start, end) in ranges.items():
        with subtests.test(asked=asked):
            response = caller.get(path + NAME, Range=asked)
            assert response.status_code == 206
            assert response.data == CONTENT[start:end]
            assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"


def test_ranges_that_are_answered_with_the_whole(caller: Caller, path: str, subtests: pytest.Subtests) -> None:
    for asked in ("bytes=0-1,5-6", "bytes=5-1", "bytes=a-b", "lines=1-2", "bytes", "bytes=--5"):
        with subtests.test(asked=asked):
            response = caller.get(path + NAME, Range=asked)
            assert (response.status_code, response.content_length) == (200, SIZE)
    assert caller.get(path + NAME, **{"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200
    assert caller.get(path + NAME, **{"Range": "bytes=0-1", "If-Range": f'"{SHA256}"'}).status_code == 206


def test_a_range_behind_the_end(caller: Caller, path: str, subtests: pytest.Subtests) -> None:
    for name, asked, size in ((NAME, f"bytes={SIZE}-", SIZE), ("empty", "bytes=0-", 0), ("empty", "bytes=-5", 0)):
        with subtests.test(name=name, asked=asked):
            response = caller.get(path + name, Range=asked)
            assert response.status_code == 416
            assert response.headers["Content-Range"] == f"bytes */{size}"
            problem_of(response)


def test_a_head_says_what_a_get_of_the_whole_would(caller: Caller, path: str) -> None:
    for asked in (None, "bytes=0-9"):  # RFC 9110 knows ranges of GET alone
        headers = {**caller.headers, **({"Range": asked} if asked else {})}
        response = caller.client.head(path + NAME, headers=headers)
        assert (response.status_code, response.content_length, response.data) == (200, SIZE, b"")


def test_a_file_that_the_client_has_is_not_sent_again(caller: Caller, path: str) -> None:
    response = caller.get(path + NAME, **{"If-None-Match": f'"{SHA256}"'})
    assert (response.status_code, response.data) == (304, b"")


def test_an_empty_file(caller: Caller, path: str) -> None:
    response = caller.get(path + "empty")
    assert (response.status_code, response.data, response.content_length) == (200, b"", 0)


def test_names_that_are_no_file_of_the_artifact(caller: Caller, path: str, subtests: pytest.Subtests) -> None:
    for name in ("other", "../../../../etc/passwd", "%00", "sub", "sub/", "/etc/passwd", "sub//x"):
        with subtests.test(name=name):
            assert problem_of(caller.get(path + name))["status"] == 404


def test_a_blob_that_the_store_has_lost_is_a_problem(app: APIFlask, caller: Caller, path: str) -> None:
    services_of(app).store.delete(SHA256)
    response = caller.get(path + NAME)
    assert response.status_code == 503
    assert problem_of(response)["code"] == "blob_lost"
