"""The directory store: whole or not at all, never changed, clear about a full disk."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from core.errors import DoesNotFit, StoreFailed
from core.manifest import StoredFile, manifest_digest
from store.directory import DirectoryStore
from store.opening import open_store

CONTENT = b"weights" * 1000


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def write(path: Path, content: bytes = CONTENT) -> str:
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_what_is_put_can_be_read(store: DirectoryStore, tmp_path: Path) -> None:
    sha256 = write(tmp_path / "file")
    assert not store.has(sha256)
    store.put(tmp_path / "file", sha256)
    assert store.has(sha256)
    path = store.materialize(sha256)
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o222 == 0
    assert b"".join(store.read(sha256, 0, len(CONTENT))) == CONTENT
    assert b"".join(store.read(sha256, 10, 25)) == CONTENT[10:35]
    assert b"".join(store.read(sha256, len(CONTENT) - 3, 100)) == CONTENT[-3:]


def test_a_second_put_changes_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    sha256 = write(tmp_path / "one")
    write(tmp_path / "two")
    store.put(tmp_path / "one", sha256)
    before = store.materialize(sha256).stat()
    store.put(tmp_path / "two", sha256)
    assert store.materialize(sha256).stat().st_ino == before.st_ino


def test_another_file_system_is_copied_from(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = write(tmp_path / "file")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path == tmp_path / "file":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    store.put(tmp_path / "file", sha256)
    assert store.materialize(sha256).read_bytes() == CONTENT
    assert list((tmp_path / "store" / "arriving").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, DoesNotFit), (errno.EDQUOT, DoesNotFit), (errno.EIO, StoreFailed)]
)
def test_a_failed_write_leaves_nothing(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    sha256 = write(tmp_path / "file")

    def refuse(*_: Path) -> Path:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(error):
        store.put(tmp_path / "file", sha256)
    assert not store.has(sha256)


def test_a_lost_blob_is_said(store: DirectoryStore) -> None:
    with pytest.raises(StoreFailed, match="lost the blob"):
        store.materialize("0" * 64)
    with pytest.raises(StoreFailed, match="lost the blob"):
        list(store.read("0" * 64, 0, 1))
    store.delete("0" * 64)


def test_a_store_is_opened_by_its_url(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    store = open_store(folder.as_uri())
    store.check()
    assert (folder / "arriving").is_dir()
    for url in ("", "relative", "file://host/x", "ftp://x/y"):
        with pytest.raises(ValueError, match="is no store"):
            open_store(url)


def test_a_store_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="cannot be used"):
        DirectoryStore(tmp_path / "file").check()


def test_the_digest_of_a_manifest_does_not_depend_on_the_order() -> None:
    one, two = StoredFile("a", "0" * 64, 1), StoredFile("b", "1" * 64, 2)
    assert manifest_digest([one, two]) == manifest_digest([two, one]) != manifest_digest([one])
