"""Put what a child left into the store: intents first, then the blobs; the commit is the supervisor's."""

from pathlib import Path

from core.errors import ChildCrashed
from core.manifest import StoredFile, manifest_digest
from db import artifacts
from db.artifacts import NewArtifact
from db.tokens import Lease
from pipeline.step_kind import Output
from store.digest import sha256_of
from store.port import BlobStore
from workers.lease_keeper import LeaseKeeper


def upload(keeper: LeaseKeeper, store: BlobStore, lease: Lease, folder: Path, output: Output) -> NewArtifact:
    """Store every file under ``folder`` as a blob and return the artifact they make.

    Raises:
        Interrupted: the work is not wanted any more.
        ChildCrashed: there is nothing to store, or something that is no file.
        StoreFailed: a blob could not be written.
        DoesNotFit: the store is full.
    """
    entries = sorted(folder.rglob("*"))
    paths = {str(path.relative_to(folder)): path for path in entries if path.is_symlink() or not path.is_dir()}
    if not paths or any(path.is_symlink() or not path.is_file() for path in paths.values()):
        raise ChildCrashed("The step ended without the files that it promised. Its log has the details.")
    files = [StoredFile(name, _sha256(path, keeper), path.stat().st_size) for name, path in paths.items()]
    keeper.persist(lambda session: artifacts.intend(session, lease, {file.sha256: file.size_bytes for file in files}))
    for file in files:
        keeper.check()
        store.put(paths[file.name], file.sha256, keeper.check)
    return NewArtifact(role=output.role, format=output.format, digest=manifest_digest(files), files=tuple(files))


def _sha256(path: Path, keeper: LeaseKeeper) -> str:
    with path.open("rb") as file:
        return sha256_of(file, keeper.check)
