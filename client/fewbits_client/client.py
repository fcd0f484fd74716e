"""The client: one method for each thing that the API can do."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack, cast

from fewbits_client import download
from fewbits_client.backoff import Backoff
from fewbits_client.connection import Connection, identifier
from fewbits_client.creating import create, job_request, sweep_request
from fewbits_client.errors import UnexpectedAnswer
from fewbits_client.objects import (
    Artifact,
    ArtifactFile,
    Attempt,
    Dataset,
    DatasetKind,
    Event,
    Job,
    LogChunk,
    Method,
    Metric,
    Model,
    Page,
    Plan,
    Quota,
    SubmitOptions,
    TextFormat,
    is_over,
)
from fewbits_client.stream import Done, Update, follow, follow_all
from fewbits_client.sweeps import Recipe, Sweep, unfinished_jobs

_PAGE_LIMIT = 100
_JSONL_SUFFIXES = (".jsonl", ".ndjson")
_MEDIA_TYPES: Mapping[TextFormat, str] = {"text": "text/plain", "jsonl": "application/jsonl"}


class Client:
    """A team's access to one fewbits server. Use it as a context manager, or call `close`.

    Args:
        url: where the server is, as ``make up`` prints it.
        api_key: the team's key.
        timeout_seconds: how long the answer to an ordinary request may take.
        retry_seconds: the longest first wait before what was broken off is tried again: a stream, a download, a
            request that makes a job.
        patience_seconds: how long such a thing may fail before it is given up.
        poll_seconds: how often followed logs are looked at.

    Raises:
        InvalidArgument: the URL or the key cannot be used.
    """

    def __init__(  # noqa: PLR0913  # all but two have defaults and are given by name
        self,
        url: str,
        api_key: str,
        *,
        timeout_seconds: float = 60.0,
        retry_seconds: float = 0.5,
        patience_seconds: float = 120.0,
        poll_seconds: float = 1.0,
    ) -> None:
        self._connection = Connection(url, api_key, timeout_seconds=timeout_seconds)
        self._retry_seconds = retry_seconds
        self._patience_seconds = patience_seconds
        self._poll_seconds = poll_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    def submit(
        self,
        source: str,
        recipe: str | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Ask for one recipe on one source; where no answer comes, again, and still for one job.

        Args:
            source: ``file:///…`` on the server, ``hf://…`` or ``s3://…``.
            recipe: short form such as ``gguf:Q4_K_M``, or the long form as a mapping.
            idempotency_key: names this request, so that also another process may send it again for a day and get the
                same job; by default one that only this call knows.
            **options: see `SubmitOptions`; what is absent is left to the server.

        Returns:
            The job as it was accepted.

        Raises:
            Problem: the server refused; its errors name the fields.
            Unreachable: the server was never there, or did not answer for `patience_seconds`. Then the job may exist
                nevertheless: submit with the same key again, or look before submitting anew.
        """
        return _a_job(self._create("/v1/jobs", job_request(source, recipe, options), idempotency_key))

    def plan(self, source: str, recipe: str | Mapping[str, Any], **options: Unpack[SubmitOptions]) -> Plan:
        """Return what `submit` with the same arguments would come to; nothing is submitted.

        Raises:
            Problem: there is nothing to plan; its errors name the fields. What would only be refused for this model or
                these workers stands in the plan's `refusals`.
        """
        body = job_request(source, recipe, options)
        return cast("Plan", self._connection.call("POST", "/v1/plan", body=body))

    def job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return _a_job(self._connection.call("GET", _job_path(job_id)))

    def jobs(
        self,
        *,
        status: str | None = None,
        method: str | None = None,
        created_after: str | None = None,
        label: str | None = None,
        sweep: str | None = None,
    ) -> Iterator[Job]:
        """Yield the team's jobs, newest first, page by page as they are needed."""
        filters = {"status": status, "method": method, "created_after": created_after, "label": label, "sweep": sweep}
        return self._pages("/v1/jobs", None, filters)

    def cancel(self, job_id: str) -> Job:
        """Ask for a job to be stopped; it may be `cancelling` for a while.

        Raises:
            Problem: with status 409, where the job has already succeeded or failed.
        """
        return _a_job(self._connection.call("POST", f"{_job_path(job_id)}/cancel"))

    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Ask once more for what a job that is over asked for; what had succeeded of it is not done again.

        Args:
            job_id: which job.
            idempotency_key: as in `submit`.

        Returns:
            The new job, whose `retry_of` is the old one.

        Raises:
            Problem: with status 409, where the job is not over.
            Unreachable: as in `submit`.
        """
        return _a_job(self._create(f"{_job_path(job_id)}/retry", None, idempotency_key))

    def events(self, job_id: str, *, after: int = 0, limit: int = _PAGE_LIMIT) -> Page[Event]:
        """Return one page of a job's events, those numbered above `after`."""
        query = {"after": after or None, "limit": limit}
        return cast("Page[Event]", self._connection.call("GET", f"{_job_path(job_id)}/events", query=query))

    def stream(self, job_id: str, *, after: int = 0) -> Iterator[Update]:
        """Yield what happens to a job as it happens, over dropped connections, and `Done` at its end.

        Args:
            job_id: which job.
            after: the number of the last event already seen; 0 begins with the first.

        Raises:
            Unreachable: the server was never there, or stayed away for `patience_seconds`.
            Problem: the server refused.
        """
        return follow(self._connection, job_id, after=after, backoff=self._backoff())

    def stream_all(self, job_ids: Sequence[str]) -> Iterator[tuple[str, Update]]:
        """Yield what happens to several jobs, each with its id, until all are over."""
        return follow_all(job_ids, self.stream)

    def wait(self, job_id: str) -> Job:
        """Return the job once it is over, however it ended."""
        for update in self.stream(job_id):
            if isinstance(update, Done):
                return update.job
        raise UnexpectedAnswer(f"the stream of {job_id} ended without the job")

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return every attempt of the job's steps, by its start: where it was made, and how it ended."""
        return _data(self._connection.call("GET", f"{_job_path(job_id)}/attempts"))

    def logs(
        self, job_id: str, *, step: str | None = None, attempt: int | None = None, follow: bool = False
    ) -> Iterator[LogChunk]:
        """Yield what the job's steps printed, in order.

        Args:
            job_id: which job.
            step: only this kind of step, such as ``quantize``.
            attempt: only the attempt of this number.
            follow: go on until the job is over instead of ending with what is there now.
        """
        last = 0
        while True:
            # Asked before the page is read: what was printed up to the job's end is then in that page.
            ended = not follow or is_over(self.job(job_id))
            for chunk in self._pages(f"{_job_path(job_id)}/logs", last or None, {"step": step, "attempt": attempt}):
                last = chunk["id"]
                yield chunk
            if ended:
                return
            time.sleep(self._poll_seconds)

    def metrics(self, job_id: str) -> Iterator[Metric]:
        """Yield what the job's steps have measured, module by module, in order."""
        return self._pages(f"{_job_path(job_id)}/metrics", None, {})

    def artifacts(self, job_id: str) -> list[Artifact]:
        """Return what the job has produced."""
        return _data(self._connection.call("GET", f"{_job_path(job_id)}/artifacts"))

    def download(
        self,
        job_id: str,
        folder: str | Path,
        *,
        force: bool = False,
        on_progress: Callable[[ArtifactFile, int], None] | None = None,
    ) -> list[Path]:
        """Fetch every file of the job's artifacts into a folder.

        A connection that breaks is taken up where it broke, also by a later call. Each file is verified before it
        gets its name; one that is already there and identical is left as it is.

        Args:
            job_id: which job.
            folder: where to; it is made where it does not exist.
            force: replace files that are there and different.
            on_progress: called with a file and the bytes of it that are on the disk.

        Returns:
            Where the files are, in the artifacts' order.

        Raises:
            UnsafeFileName: the server names a file outside the folder; nothing was written.
            FileConflict: a different file is there; nothing was written.
            DigestMismatch: what came is not what was listed.
            Unreachable: the server was never there, or stayed away for `patience_seconds`.
            OSError: the disk refused.
        """
        report = on_progress or (lambda _file, _bytes: None)
        found = download.targets(job_id, self.artifacts(job_id), Path(folder))
        missing = [target for target in found if download.needed(target, force=force)]
        for target in missing:
            download.fetch(self._connection, target, backoff=self._backoff(), on_progress=report)
        return [target.path for target in found]

    def report(self, object_id: str) -> str:
        """Return the report of a job or of a sweep: one HTML page that needs nothing else.

        Raises:
            Problem: with status 404, where there is none yet.
        """
        return self._connection.text(_report_path(object_id), media_type="text/html")

    def report_facts(self, object_id: str) -> dict[str, Any]:
        """Return what a report is made of: of a job its ``fewbits.json``, of a sweep what `sweep` returns.

        Raises:
            Problem: as with `report`.
        """
        return self._connection.call("GET", _report_path(object_id), headers={"Accept": "application/json"})

    def submit_sweep(
        self,
        source: str,
        recipes: Sequence[Recipe] | None = None,
        *,
        preset: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Sweep:
        """Ask for many recipes on one source, to be compared; where no answer comes, again, and still for one sweep.

        Args:
            source: as in `submit`.
            recipes: each as in `submit`.
            preset: a list of recipes by its name, in place of one: ``gguf-all``, ``gpu-4bit`` or ``everything``.
            idempotency_key: as in `submit`.
            **options: as in `submit`; `publish_to` is a folder in which each result gets one of its own.

        Raises:
            Problem: the server refused, and nothing was made; its errors name the fields.
            Unreachable: as in `submit`.
        """
        return _a_sweep(self._create("/v1/sweeps", sweep_request(source, recipes, preset, options), idempotency_key))

    def sweep(self, sweep_id: str) -> Sweep:
        """Return a sweep as it is now: a row for each recipe, and which of them is recommended."""
        return _a_sweep(self._connection.call("GET", _sweep_path(sweep_id)))

    def sweeps(self) -> Iterator[Sweep]:
        """Yield the team's sweeps, newest first, without what is inside."""
        return self._pages("/v1/sweeps", None, {})

    def extend_sweep(self, sweep_id: str, recipes: Sequence[Recipe], *, idempotency_key: str | None = None) -> Sweep:
        """Add recipes to a sweep, whether it has ended or not; only these run.

        Raises:
            Problem: the server refused; its errors name what is there already.
            Unreachable: as in `submit`.
        """
        path = f"{_sweep_path(sweep_id)}/recipes"
        return _a_sweep(self._create(path, {"recipes": list(recipes)}, idempotency_key))

    def cancel_sweep(self, sweep_id: str) -> Sweep:
        """Ask for each job of a sweep that is not over to be stopped.

        Raises:
            Problem: with status 409, where nothing can be cancelled any more.
        """
        return _a_sweep(self._connection.call("POST", f"{_sweep_path(sweep_id)}/cancel"))

    def wait_for_sweep(self, sweep_id: str) -> Sweep:
        """Return a sweep once all of its jobs are over, those that were added meanwhile, too."""
        while unfinished := unfinished_jobs(sweep := self.sweep(sweep_id)):
            for _ in self.stream_all(unfinished):
                pass
        return sweep

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

    def inspect(self, source: str) -> Model:
        """Return what a model is, and which recipes go with it, by its headers and small files alone.

        Args:
            source: as in `submit`.

        Raises:
            Problem: with status 422, where the server cannot see it, or it is no model that can be worked on.
        """
        return cast("Model", self._connection.call("POST", "/v1/models/inspect", body={"source": source}))

    def methods(self) -> list[Method]:
        """Return the ways to quantize that this server knows."""
        return _data(self._connection.call("GET", "/v1/methods"))

    def quotas(self) -> list[Quota]:
        """Return what the team may have at once, and how much of it is used."""
        return _data(self._connection.call("GET", "/v1/quotas"))

    def _pages(self, path: str, after: str | int | None, query: Mapping[str, str | int | None]) -> Iterator[Any]:
        """Yield the items of a list, each page asked for when the one before is used up."""
        while True:
            page = self._connection.call("GET", path, query={**query, "after": after, "limit": _PAGE_LIMIT})
            items = _data(page)
            yield from items
            if not page.get("has_more") or not items:
                return
            after = items[-1]["id"]

    def _create(self, path: str, body: Mapping[str, Any] | None, key: str | None) -> dict[str, Any]:
        return create(self._connection, path, body=body, key=key, backoff=self._backoff())

    def _backoff(self) -> Backoff:
        return Backoff(self._retry_seconds, self._patience_seconds)


def _a_job(value: dict[str, Any]) -> Job:
    """Return the job that the server sent, known to be one."""
    if value.get("object") != "job":
        raise UnexpectedAnswer("the server sent something else where a job belongs; is the URL right?")
    return cast("Job", value)


def _a_sweep(value: dict[str, Any]) -> Sweep:
    """Return the sweep that the server sent, known to be one."""
    if value.get("object") != "sweep":
        raise UnexpectedAnswer("the server sent something else where a sweep belongs; is the URL right?")
    return cast("Sweep", value)


def _data(page: Mapping[str, Any]) -> list[Any]:
    """Return the items of a page."""
    items = page.get("data")
    if not isinstance(items, list):
        raise UnexpectedAnswer("the server sent something else where a list belongs; is the URL right?")
    return items


def _job_path(job_id: str) -> str:
    return f"/v1/jobs/{identifier(job_id)}"


def _sweep_path(sweep_id: str) -> str:
    return f"/v1/sweeps/{identifier(sweep_id)}"


def _report_path(object_id: str) -> str:
    return f"{_sweep_path(object_id) if object_id.startswith('sweep_') else _job_path(object_id)}/report"
