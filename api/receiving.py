"""A dataset that a client sends: looked at as it comes, stored once it is known to be whole and good.

Refuses to know: what datasets are used for.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import BinaryIO

from flask import request
from sqlalchemy.orm import Session
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, ClientDisconnected, HTTPException, RequestEntityTooLarge

from api.quotas import default_quotas
from api.services import services
from core.errors import ContentTooLarge, MediaTypeUnknown, StoreFailed
from core.ids import DatasetId, TeamId
from db import datasets, quotas
from db.datasets import NewDataset
from db.tables import Dataset
from engines.datasets import TextFormat, look_at

MEDIA_TYPES: dict[str, TextFormat] = {
    "text/plain": "text",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
}
SUFFIXES: dict[str, TextFormat] = {".txt": "text", ".jsonl": "jsonl", ".ndjson": "jsonl"}
PIECE_BYTES = 2**16
FORM_BYTES = 2**16  # of a form, beside the file in it
STORE_SECONDS = 60.0  # so long a client waits while the store is away


def expect_file() -> None:
    """Let the current request bring as much as a dataset may have, with a form around it.

    Raises:
        ContentTooLarge: it says that it brings more.
    """
    request.max_content_length = services().settings.dataset_bytes_max + FORM_BYTES
    if (request.content_length or 0) > request.max_content_length:
        raise _too_large()


def receive_dataset(team_id: TeamId, name: str) -> tuple[Dataset, bool]:
    """Read the current request's body to its end, store it, and return the dataset, and whether it is new.

    Raises:
        MediaTypeUnknown: it is of no kind that is taken.
        ContentTooLarge: it is larger than the operator allows.
        InvalidRequest: it is not what its media type says, or its lines are not all of one kind.
        QuotaExceeded: the team has as many datasets as it may have.
        StoreFailed: it could not be stored.
    """
    form = MEDIA_TYPES.get(request.mimetype)
    if form is None:
        known = ", ".join(MEDIA_TYPES)
        raise MediaTypeUnknown(f"Send the dataset itself, with a Content-Type that says what it is: {known}.")
    return _receive(team_id, name, form, _body())


def receive_file(team_id: TeamId, name: str, file: FileStorage) -> tuple[Dataset, bool]:
    """Store a file that came in a form, and return the dataset, and whether it is new.

    Raises:
        MediaTypeUnknown: its name ends as that of no dataset does.
        RequestError: otherwise, and StoreFailed, as ``receive_dataset``.
    """
    form = SUFFIXES.get(PurePath(file.filename or "").suffix.lower())
    if form is None:
        raise MediaTypeUnknown(
            f"{file.filename} is no dataset by its name, which must end in .txt, or in .jsonl where each line is "
            "a document."
        )
    return _receive(team_id, name, form, _limited(partial(file.stream.read, PIECE_BYTES)))


def _receive(team_id: TeamId, name: str, form: TextFormat, pieces: Iterator[bytes]) -> tuple[Dataset, bool]:
    with tempfile.TemporaryDirectory(prefix="fewbits-dataset-") as folder:
        path = Path(folder, "dataset")
        digest = hashlib.sha256()
        with path.open("wb") as file:
            seen = look_at(_noted(pieces, digest.update, file), form)
        new = NewDataset(name, seen.kind, digest.hexdigest(), path.stat().st_size, seen.items)
        return _store(team_id, new, path)


def _store(team_id: TeamId, new: NewDataset, path: Path) -> tuple[Dataset, bool]:
    """Announce, put, keep: nobody sees a dataset whose bytes are not there, and no collection takes them meanwhile."""
    run, store = services().database.run, services().store
    dataset_id = run(lambda session: _announce(session, team_id, new))
    try:
        store.put(path, new.sha256, _patience())  # also where it was stored before: a blob that was lost is there again
    except StoreFailed:
        run(partial(datasets.abandon, new=new, dataset_id=dataset_id))
        raise
    return run(partial(datasets.keep, dataset_id=dataset_id))


def _announce(session: Session, team_id: TeamId, new: NewDataset) -> DatasetId:
    quotas.require_place_for_dataset(session, team_id, new, default_quotas(services().settings))
    return datasets.announce(session, team_id, new)


def _body() -> Iterator[bytes]:
    """Yield the body in pieces.

    Raises:
        ContentTooLarge: there is more of it than the operator allows.
        BadRequest: it ends before it should, or is not sent as HTTP has it.
    """
    request.max_content_length = services().settings.dataset_bytes_max
    size_bytes = 0
    for piece in _limited(_read_some):
        size_bytes += len(piece)
        yield piece
    if size_bytes < (request.content_length or 0):  # gunicorn ends what was broken off as if it were whole
        raise ClientDisconnected


def _limited(read: Callable[[], bytes]) -> Iterator[bytes]:
    size_bytes = 0
    while piece := read():
        size_bytes += len(piece)
        if size_bytes > services().settings.dataset_bytes_max:
            raise _too_large()
        yield piece
        time.sleep(0)  # other requests have their turn: it may take long to look at all that came


def _read_some() -> bytes:
    try:
        return request.stream.read(PIECE_BYTES)
    except RequestEntityTooLarge:
        raise _too_large() from None
    except HTTPException:
        raise
    except Exception as error:  # each server has errors of its own for chunks that are malformed
        raise BadRequest from error


def _too_large() -> ContentTooLarge:
    return ContentTooLarge(
        f"The dataset is larger than the {services().settings.dataset_bytes_max} bytes that this service takes. "
        "Send a part of it: a few megabytes are more than a method looks at. Your operator sets this limit, by "
        "FEWBITS_DATASET_BYTES_MAX."
    )


def _noted(pieces: Iterator[bytes], digest: Callable[[bytes], None], file: BinaryIO) -> Iterator[bytes]:
    for piece in pieces:
        digest(piece)
        file.write(piece)
        yield piece


def _patience() -> Callable[[], None]:
    give_up_at = time.monotonic() + STORE_SECONDS

    def check() -> None:
        if time.monotonic() >= give_up_at:
            raise StoreFailed("The store does not answer. Send the dataset again in a while.")

    return check
