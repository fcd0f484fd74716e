"""Put what a child left into the store: intents first, then the blobs; the commit is the supervisor's."""

from pathlib import Path

from core.errors import ChildCrashed
from core.manifest import StoredFile, manifest_digest
from db import artifacts
from db.artifacts import NewArtifact
from db.tokens import LeaseLost, require
from pipeline.step_kind import Output
from store.digest import sha256_of
from store.port import BlobStore, Check
from workers.leases import HeldLease, Interrupted

BROKEN_PROMISE = "The step ended without the files that it promised. Its log has the details."


def upload(held: HeldLease, store: BlobStore, folder: Path, output: Output) -> NewArtifact:
    """Store every file under ``folder`` as a blob and return the artifact they make.

    Raises:
        Interrupted: the work is not wanted any more.
        ChildCrashed: there is nothing to store, or something that is no file.
        StoreFailed: a blob could not be written.
        StoreFull: there is no room for it.
    """
    files = put_files(held, store, folder, held.check)
    if not files:
        raise ChildCrashed(BROKEN_PROMISE)
    return NewArtifact(role=output.role, format=output.format, digest=manifest_digest(files), files=tuple(files))


def put_files(held: HeldLease, store: BlobStore, folder: Path, check: Check) -> list[StoredFile]:
    """Store every file under ``folder`` as a blob.

    Raises:
        Interrupted, ChildCrashed, StoreFailed: as ``upload``.
        LeaseLost: the token is not the row's any more.
    """
    paths = files_in(folder)
    files = [StoredFile(name, _sha256(path, check), path.stat().st_size) for name, path in paths.items()]
    sizes = {file.sha256: file.size_bytes for file in files}
    held.persist(lambda session: artifacts.intend(session, held.lease, sizes))
    try:
        for file in files:
            check()
            store.put(paths[file.name], file.sha256, check)
        held.persist(lambda session: require(session, held.lease))
    except (Interrupted, LeaseLost):
        # The announcements ended with the lease, and what was put since may have been collected before. A row lets it
        # be collected again.
        held.persist(lambda session: artifacts.expect_all(session, sizes))
        raise
    return files


def files_in(folder: Path) -> dict[str, Path]:
    """Return every file under ``folder`` by its name there.

    Raises:
        ChildCrashed: there is something that is no file.
    """
    entries = sorted(folder.rglob("*"))
    paths = {str(path.relative_to(folder)): path for path in entries if path.is_symlink() or not path.is_dir()}
    if any(path.is_symlink() or not path.is_file() for path in paths.values()):
        raise ChildCrashed(BROKEN_PROMISE)
    return paths


def _sha256(path: Path, check: Check) -> str:
    with path.open("rb") as file:
        return sha256_of(file, check)
