"""What an execution reads: the files of artifacts that others have made, and of datasets that its team has brought."""

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from core.errors import NotFound
from core.manifest import StoredFile
from db import artifacts, datasets


def files_of(session: Session, ids: Sequence[str]) -> Mapping[str, Sequence[StoredFile]]:
    """Return the files of each input, by its id.

    Raises:
        NotFound: one is not there any more, as where the dataset of a job that was just ended is deleted.
    """
    found = {**artifacts.files_of(session, ids), **datasets.files_of(session, ids)}
    if missing := set(ids) - found.keys():
        raise NotFound(f"What the step reads was deleted: {', '.join(sorted(missing))}.")
    return found
