"""Fetching an artifact's files: resumed, verified, and never outside the folder that was asked for.

The server is not trusted here: names are checked before anything is asked for, no more bytes are taken than were
listed, and a file gets its name only after its bytes on the disk have the listed sha256.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import quote

import httpx

from fewbits_client.backoff import Backoff
from fewbits_client.connection import Connection, identifier
from fewbits_client.errors import DigestMismatch, FileConflict, Unreachable, UnsafeFileName
from fewbits_client.objects import Artifact, ArtifactFile

_SILENCE_MAX_SECONDS = 60.0
_SHA256_LETTERS = 64

# The open file of a part; typeshed's BinaryIO lacks what hashlib asks for.
_Part = io.BufferedRandom

# Called with a file, the bytes of it that are on the disk, and nothing else; must be quick.
OnProgress = Callable[[ArtifactFile, int], None]


@dataclass(frozen=True)
class Target:
    """One file to fetch: where it comes from and where it goes."""

    url_path: str
    file: ArtifactFile
    path: Path

    @property
    def part(self) -> Path:
        """Where it grows; named by its digest, so that a part of other content is never continued."""
        return self.path.with_name(f"{self.path.name}.{self.file['sha256'][:8]}.part")


def targets(job_id: str, artifacts: Sequence[Artifact], folder: Path) -> list[Target]:
    """Return what has to be fetched, each name checked.

    Raises:
        UnsafeFileName: a name would leave `folder`, or a digest is none.
        FileConflict: two different files have one name.
    """
    found: dict[str, Target] = {}
    for artifact in artifacts:
        base = f"/v1/jobs/{identifier(job_id)}/artifacts/{identifier(artifact['id'])}/files/"
        for file in artifact["files"]:
            target = Target(base + quote(file["name"]), file, safe_path(folder, file["name"]))
            digest = file["sha256"]
            if len(digest) != _SHA256_LETTERS or not set(digest) <= set("0123456789abcdef"):
                raise UnsafeFileName(f"the server lists {digest!r} as the sha256 of {file['name']!r}")
            other = found.setdefault(os.path.normcase(target.path), target)
            if other.file["sha256"] != digest:
                raise FileConflict(f"two different files of {job_id} are named {file['name']!r}")
    return list(found.values())


def safe_path(folder: Path, name: str) -> Path:
    """Return where a file of this name goes, below `folder`.

    Raises:
        UnsafeFileName: it would not be below `folder`, on this or another system.
    """
    parts = PurePosixPath(name).parts
    unsafe = (
        not parts
        or name.endswith("/")
        or PurePosixPath(name).is_absolute()
        or ".." in parts
        or "\\" in name
        or bool(PureWindowsPath(name).drive)
        or not name.isprintable()
    )
    path = folder.joinpath(*parts)
    # A link that already lies in the folder may lead out of it just as a name can.
    if unsafe or not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UnsafeFileName(f"the server names a file {name!r}, which would leave {folder}; nothing was written")
    return path


def needed(target: Target, *, force: bool) -> bool:
    """Return whether a file has to be fetched; a complete identical one is left as it is.

    Raises:
        FileConflict: something different is there and `force` is off, or a folder is.
    """
    if not os.path.lexists(target.path):
        return True
    if target.path.is_file() and target.path.stat().st_size == target.file["size_bytes"]:
        with target.path.open("rb") as existing:
            if hashlib.file_digest(existing, "sha256").hexdigest() == target.file["sha256"]:
                return False
    if target.path.is_dir() or not force:
        raise FileConflict(f"{target.path} exists and is different; choose another folder, or force to replace it")
    return True


def fetch(connection: Connection, target: Target, *, backoff: Backoff, on_progress: OnProgress) -> None:
    """Fetch one file, continuing a part of it that an earlier try left.

    Raises:
        Unreachable: no byte came for the backoff's patience, or the server was never there.
        DigestMismatch: what came is not what the artifact lists; the part is removed.
        Problem: the server refused.
    """
    target.path.parent.mkdir(parents=True, exist_ok=True)
    size_bytes = target.file["size_bytes"]
    with target.part.open("a+b") as part:
        have = _length(part)
        on_progress(target.file, min(have, size_bytes))
        heard = False
        while have < size_bytes:
            before = have
            dropped = Unreachable(f"{connection.url} keeps ending {target.file['name']} before its last byte")
            try:
                _continue(connection, target, part, on_progress)
                heard = True
            except Unreachable as error:
                dropped = error
            have = _length(part)
            if have > before:
                heard = True
                backoff.succeeded()
            elif not heard:
                raise dropped
            if have < size_bytes:
                backoff.wait(dropped)
        _verify(target, part)
        os.fsync(part.fileno())
    target.part.replace(target.path)


def _continue(connection: Connection, target: Target, part: _Part, on_progress: OnProgress) -> None:
    """Append what one connection brings."""
    have = _length(part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"{target.file["sha256"]}"'}
    with connection.stream_file(target.url_path, headers=headers, timeout_seconds=_SILENCE_MAX_SECONDS) as response:
        if not _continues(response, have):
            part.truncate(0)
            have = 0
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return
        for chunk in response.iter_raw():
            part.write(chunk)
            have += len(chunk)
            if have > target.file["size_bytes"]:
                _refuse(target, part, "is longer than the server listed")
            on_progress(target.file, have)


def _continues(response: httpx.Response, have: int) -> bool:
    """Return whether the answer's bytes follow the ones that are there.

    Only the header tells: some S3 servers, rclone's among them, send a range with the status of the whole.
    """
    return str(response.headers.get("content-range", "")).startswith(f"bytes {have}-")


def _verify(target: Target, part: _Part) -> None:
    """Check what is on the disk, not what passed by: another process may have written to the same part."""
    part.flush()
    part.seek(0)
    if hashlib.file_digest(part, "sha256").hexdigest() != target.file["sha256"]:
        _refuse(target, part, "does not have the sha256 that the server listed")


def _refuse(target: Target, part: _Part, why: str) -> None:
    part.truncate(0)
    with contextlib.suppress(OSError):
        target.part.unlink()
    raise DigestMismatch(f"{target.file['name']} {why}; what came was removed, and no file was written")


def _length(part: _Part) -> int:
    part.flush()
    return part.seek(0, os.SEEK_END)
