"""What can be asked about the team's own datasets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from fewbits_client.calls import Calls
from fewbits_client.connection import identifier
from fewbits_client.objects import Dataset, DatasetKind, TextFormat

_JSONL_SUFFIXES = (".jsonl", ".ndjson")
_MEDIA_TYPES: Mapping[TextFormat, str] = {"text": "text/plain", "jsonl": "application/jsonl"}


class DatasetCalls(Calls):
    """The calls about datasets."""

    def upload_dataset(self, file: str | Path, *, name: str | None = None, format: TextFormat | None = None) -> Dataset:  # noqa: A002  # the API's word
        """Bring a dataset: text for calibration, which a recipe names by its id, or what models are judged on.

        Bytes that the team has uploaded before are the same dataset, so that this may be done again.

        Args:
            file: UTF-8: plain text, or JSONL whose lines are all of one kind; `POST /v1/datasets` says of which.
            name: for people; by default the file's.
            format: ``text`` or ``jsonl``; by default as the file's name says.

        Raises:
            Problem: the server refused; it names the line that is wrong.
            Unreachable: no answer came.
            OSError: the file cannot be read.
        """
        path = Path(file)
        given = format or ("jsonl" if path.suffix.lower() in _JSONL_SUFFIXES else "text")
        query = {"name": path.name if name is None else name}
        answer = self._connection.send_file("/v1/datasets", path, media_type=_MEDIA_TYPES[given], query=query)
        return cast("Dataset", answer)

    def datasets(self, *, kind: DatasetKind | None = None) -> Iterator[Dataset]:
        """Yield the team's datasets, newest first; those of one kind, where one is named."""
        return self._pages("/v1/datasets", None, {"kind": kind})

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset; results that were made with it stay.

        Raises:
            Problem: with status 409, where a job that is not over needs it.
        """
        self._connection.call("DELETE", f"/v1/datasets/{identifier(dataset_id)}")
