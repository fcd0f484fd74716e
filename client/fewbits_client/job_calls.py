"""What can be asked about jobs: to have one made, to follow it, to stop it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack, cast

from fewbits_client.calls import PAGE_LIMIT, Calls, items_of, job_path
from fewbits_client.creating import job_request
from fewbits_client.errors import UnexpectedAnswer
from fewbits_client.objects import Attempt, Event, Job, LogChunk, Metric, Page, Plan, SubmitOptions, is_over
from fewbits_client.stream import Done, Update, follow, follow_all


class JobCalls(Calls):
    """The calls about jobs."""

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
        return _a_job(self._connection.call("GET", job_path(job_id)))

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
        return _a_job(self._connection.call("POST", f"{job_path(job_id)}/cancel"))

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
        return _a_job(self._create(f"{job_path(job_id)}/retry", None, idempotency_key))

    def events(self, job_id: str, *, after: int = 0, limit: int = PAGE_LIMIT) -> Page[Event]:
        """Return one page of a job's events, those numbered above `after`."""
        query = {"after": after or None, "limit": limit}
        return cast("Page[Event]", self._connection.call("GET", f"{job_path(job_id)}/events", query=query))

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
        return items_of(self._connection.call("GET", f"{job_path(job_id)}/attempts"))

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
            for chunk in self._pages(f"{job_path(job_id)}/logs", last or None, {"step": step, "attempt": attempt}):
                last = chunk["id"]
                yield chunk
            if ended:
                return
            time.sleep(self._poll_seconds)

    def metrics(self, job_id: str) -> Iterator[Metric]:
        """Yield what the job's steps have measured, module by module, in order."""
        return self._pages(f"{job_path(job_id)}/metrics", None, {})


def _a_job(value: dict[str, Any]) -> Job:
    """Return the job that the server sent, known to be one."""
    if value.get("object") != "job":
        raise UnexpectedAnswer("the server sent something else where a job belongs; is the URL right?")
    return cast("Job", value)
