"""Put what a child left into the store: intents first, then the blobs; the commit is the supervisor's."""

from pathlib import Path

from core.errors import ChildCrashed
from core.manifest import StoredFile, manifest_digest
from db import artifacts
from db.artifacts import NewArtifact
from db.claim import Lease
from db.session import Database
from pipeline.step_kind import Output
from store.port import BlobStore, sha256_of


def upload(database: Database, store: BlobStore, lease: Lease, folder: Path, output: Output) -> NewArtifact:
    """Store every file under ``folder`` as a blob and return the artifact they make.

    Raises:
        ChildCrashed: there is nothing to store, or something that is no file.
        StoreFailed: a blob could not be written.
        DoesNotFit: the store is full.
    """
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if not path.is_dir()}
    if not paths or any(path.is_symlink() or not path.is_file() for path in paths.values()):
        raise ChildCrashed("The step ended without the files that it promised. Its log has the details.")
    files = [StoredFile(name, sha256_of(path), path.stat().st_size) for name, path in paths.items()]
    database.run(lambda s: artifacts.intend(s, lease, {file.sha256: file.size_bytes for file in files}))
    for file in files:
        store.put(paths[file.name], file.sha256)
    return NewArtifact(role=output.role, format=output.format, digest=manifest_digest(files), files=tuple(files))
