"""The directory store: nothing is copied, clear about a full disk. What every store promises is in test_every_store."""

import errno
import os
from pathlib import Path

import pytest

from core.errors import StoreFailed, StoreFull
from core.manifest import StoredFile, manifest_digest
from store.directory import DirectoryStore
from tests.store.conftest import put, sha256

CONTENT = b"weights" * 1000
SHA256 = sha256(CONTENT)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_nothing_is_copied(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    inode = (tmp_path / "file").stat().st_ino
    store.put(tmp_path / "file", SHA256)
    with store.materialized({SHA256: len(CONTENT)}) as paths:
        assert paths[SHA256].stat().st_ino == inode


def test_another_file_system_is_copied_from(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path == tmp_path / "arriving":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    put(store, tmp_path, CONTENT)
    assert b"".join(store.read(SHA256, 0, len(CONTENT))) == CONTENT
    assert list((tmp_path / "store" / "arriving").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EIO, StoreFailed)]
)
def test_a_failed_write_leaves_nothing(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def refuse(*_: Path) -> Path:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(error):
        put(store, tmp_path, CONTENT)
    assert not store.has(SHA256)


def test_a_store_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="cannot be used"):
        DirectoryStore(tmp_path / "file").check()


def test_the_digest_of_a_manifest_does_not_depend_on_the_order() -> None:
    one, two = StoredFile("a", "0" * 64, 1), StoredFile("b", "1" * 64, 2)
    assert manifest_digest([one, two]) == manifest_digest([two, one]) != manifest_digest([one])
