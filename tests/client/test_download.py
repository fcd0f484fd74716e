import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fewbits_client import Client, DigestMismatch, FileConflict, UnexpectedAnswer, UnsafeFileName
from fewbits_client.errors import Unreachable
from tests.client.fake_api import Exchange, FakeApi
from tests.s3_server import S3Server

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = "/v1/jobs/job_1/artifacts/art_1/files/model.gguf"


def lists(api: FakeApi, **changes: Any) -> None:
    file = {"name": "model.gguf", "size_bytes": len(CONTENT), "sha256": SHA256, **changes}
    artifact = {"id": "art_1", "object": "artifact", "created_at": "", "format": "gguf", "digest": "", "size_bytes": 0}
    api.answers("GET", "/v1/jobs/job_1/artifacts", {"object": "list", "data": [{**artifact, "files": [file]}]})


def whole(exchange: Exchange) -> None:
    exchange.send(200, CONTENT, "application/octet-stream", ETag=f'"{SHA256}"')


def ranged(exchange: Exchange) -> None:
    start = int(exchange.headers["range"].removeprefix("bytes=").removesuffix("-"))
    place = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    exchange.send(206, CONTENT[start:], "application/octet-stream", Content_Range=place)


def cut_after(count: int) -> Callable[[Exchange], None]:
    def script(exchange: Exchange) -> None:
        exchange.send(200, CONTENT[:count], "application/octet-stream", length=str(len(CONTENT)))
        exchange.drop()

    return script


def test_a_download_cut_in_the_middle_goes_on_where_it_was(api: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api)
    api.on("GET", FILE, cut_after(500_000), ranged)
    (path,) = client.download("job_1", tmp_path)
    assert path.read_bytes() == CONTENT
    second = api.requests(FILE)[1]
    assert second.headers["if-range"] == f'"{SHA256}"'
    assert second.headers["range"] == "bytes=500000-"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gguf"]


def test_a_part_of_an_earlier_run_is_continued(api: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api)
    api.on("GET", FILE, ranged)
    (tmp_path / f"model.gguf.{SHA256[:8]}.part").write_bytes(CONTENT[:1000])
    reported: list[int] = []
    (path,) = client.download("job_1", tmp_path, on_progress=lambda _file, have: reported.append(have))
    assert path.read_bytes() == CONTENT
    assert reported[0] == 1000
    assert reported[-1] == len(CONTENT)


def test_a_server_that_sends_all_again_is_taken_at_its_word(api: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api)
    api.on("GET", FILE, cut_after(500_000), whole)
    (path,) = client.download("job_1", tmp_path)
    assert path.read_bytes() == CONTENT


def test_other_bytes_than_those_listed_leave_nothing(api: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api, sha256="0" * 64)
    api.on("GET", FILE, whole)
    with pytest.raises(DigestMismatch, match=r"model\.gguf does not have the sha256"):
        client.download("job_1", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_more_bytes_are_taken_than_were_listed(api: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api, size_bytes=1000)
    api.on("GET", FILE, whole)
    with pytest.raises(DigestMismatch, match="longer"):
        client.download("job_1", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../up", "/etc/passwd", "a/../../up", "..", "", "a\\..\\up", "C:up", "bell\a", "line\nend", "folder/", "."]
)
def test_a_name_that_leaves_the_folder_is_refused(api: FakeApi, client: Client, tmp_path: Path, name: str) -> None:
    lists(api, name=name)
    with pytest.raises(UnsafeFileName):
        client.download("job_1", tmp_path / "in")
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_folder_does_not_lead_out_of_it(api: FakeApi, client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "sub").symlink_to(tmp_path)
    lists(api, name="sub/model.gguf")
    with pytest.raises(UnsafeFileName):
        client.download("job_1", folder)


def test_names_below_the_folder_are_kept(api: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api, name="größe 1/50%.gguf")
    api.on("GET", "/v1/jobs/job_1/artifacts/art_1/files/gr%C3%B6%C3%9Fe%201/50%25.gguf", whole)
    (path,) = client.download("job_1", tmp_path)
    assert path == tmp_path / "größe 1" / "50%.gguf"


def test_a_different_file_is_replaced_only_by_force(api: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api)
    api.on("GET", FILE, whole)
    (tmp_path / "model.gguf").write_text("mine")
    with pytest.raises(FileConflict, match="exists and is different"):
        client.download("job_1", tmp_path)
    assert (tmp_path / "model.gguf").read_text() == "mine"
    client.download("job_1", tmp_path, force=True)
    assert (tmp_path / "model.gguf").read_bytes() == CONTENT


def test_an_identical_file_is_not_fetched_again(api: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api)
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    assert client.download("job_1", tmp_path) == [tmp_path / "model.gguf"]
    assert api.requests(FILE) == []


@pytest.fixture
def store() -> Iterator[FakeApi]:
    """Where the API has its files given from: refuses whoever shows a key."""
    store = FakeApi(authorization=None)
    yield store
    store.close()


def sends_to(url: str) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.send(307, b"", Location=url)


def test_a_store_gives_the_bytes_and_sees_no_key(api: FakeApi, store: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api)
    api.on("GET", FILE, sends_to(f"{store.url}/blob?signature=1"), sends_to(f"{store.url}/blob?signature=2"))
    store.on("GET", "/blob", cut_after(500_000), ranged)
    (path,) = client.download("job_1", tmp_path)
    assert path.read_bytes() == CONTENT
    first, second = store.requests("/blob")
    assert (first.path, second.path) == ("/blob?signature=1", "/blob?signature=2")
    assert second.headers["range"] == "bytes=500000-"
    assert second.headers["if-range"] is None  # it knows the file by another version


def test_a_real_s3_server_continues_a_part(api: FakeApi, s3_server: S3Server, client: Client, tmp_path: Path) -> None:
    lists(api)
    s3, there = s3_server.client(), {"Bucket": s3_server.bucket(), "Key": "blob"}
    s3.put_object(**there, Body=CONTENT)
    api.on("GET", FILE, sends_to(s3.generate_presigned_url("get_object", Params=there)))
    (tmp_path / f"model.gguf.{SHA256[:8]}.part").write_bytes(CONTENT[:1000])
    reported: list[int] = []
    (path,) = client.download("job_1", tmp_path, on_progress=lambda _file, have: reported.append(have))
    assert path.read_bytes() == CONTENT
    assert reported == sorted(reported)
    assert reported[0] == 1000


def test_what_a_store_gives_is_verified(api: FakeApi, store: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api, sha256="0" * 64)
    api.on("GET", FILE, sends_to(f"{store.url}/blob"))
    store.on("GET", "/blob", whole)
    with pytest.raises(DigestMismatch):
        client.download("job_1", tmp_path)


def test_a_store_that_refuses_is_said(api: FakeApi, store: FakeApi, client: Client, tmp_path: Path) -> None:
    lists(api)
    api.on("GET", FILE, sends_to(f"{store.url}/blob"))
    with pytest.raises(Unreachable, match=r"store at 127\.0\.0\.1 answers with status 404"):
        client.download("job_1", tmp_path)


@pytest.mark.parametrize("place", ["", "file:///etc/passwd", "/elsewhere", "http://", "ftp://x/y"])
def test_a_redirect_to_no_store_is_refused(api: FakeApi, client: Client, tmp_path: Path, place: str) -> None:
    lists(api)
    api.on("GET", FILE, sends_to(place))
    with pytest.raises(UnexpectedAnswer, match="no address"):
        client.download("job_1", tmp_path)
