"""Following a job by its event stream, resumed where a connection dropped.

Events are numbered, so none is missed and none is given twice, however often the connection breaks.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fewbits_client.backoff import Backoff
from fewbits_client.connection import Connection, identifier, parse_object
from fewbits_client.errors import Unreachable
from fewbits_client.objects import Event, Job, Step
from fewbits_client.sse import Frame, frames

# The server sends a comment each 15 s: four missed ones mean that the connection is dead.
_SILENCE_MAX_SECONDS = 60.0


@dataclass(frozen=True)
class Happened:
    """An event of the job, in its order."""

    event: Event


@dataclass(frozen=True)
class Updated:
    """The steps as they are now; sent while progress changes."""

    steps: list[Step]


@dataclass(frozen=True)
class Done:
    """The job is over; nothing follows."""

    job: Job


Update = Happened | Updated | Done


def follow(connection: Connection, job_id: str, *, after: int, backoff: Backoff) -> Iterator[Update]:
    """Yield what happens to a job until it is over.

    Args:
        connection: the server.
        job_id: which job.
        after: the number of the last event already seen; 0 begins with the first.
        backoff: how to wait between connections.

    Yields:
        Events with rising numbers, progress between them, and at last one `Done`.

    Raises:
        Unreachable: the first connection failed, or no later one succeeded for the backoff's patience.
        Problem: the server refused.
    """
    path = f"/v1/jobs/{identifier(job_id)}/events"
    connected = False
    while True:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if after:
            headers["Last-Event-ID"] = str(after)
        dropped = Unreachable(f"{connection.url} keeps ending the event stream of {job_id} before the job is over")
        try:
            with connection.stream(path, headers=headers, timeout_seconds=_SILENCE_MAX_SECONDS) as response:
                connected = True
                for frame in frames(response.iter_bytes()):
                    backoff.succeeded()
                    update = _understand(frame)
                    if isinstance(update, Happened):
                        if update.event["id"] <= after:
                            continue
                        after = update.event["id"]
                    if update is not None:
                        yield update
                    if isinstance(update, Done):
                        return
        except Unreachable as error:
            # A server that was never there is a wrong URL; one that was there is being restarted.
            if not connected:
                raise
            dropped = error
        backoff.wait(dropped)


def follow_all(job_ids: Sequence[str], follow_one: Callable[[str], Iterator[Update]]) -> Iterator[tuple[str, Update]]:
    """Yield what happens to several jobs, as it happens, until all are over.

    Each job is read by a daemon thread of its own: leaving the iterator early, as Ctrl-C does, waits for none of them.

    Args:
        job_ids: which jobs.
        follow_one: follows one of them.

    Yields:
        The job's id and what happened to it.

    Raises:
        FewbitsError: what following one of the jobs raised.
    """
    arrived: queue.SimpleQueue[tuple[str, Update | Exception]] = queue.SimpleQueue()

    def read(job_id: str) -> None:
        try:
            for update in follow_one(job_id):
                arrived.put((job_id, update))
        except Exception as error:  # noqa: BLE001  # carried to the caller's thread, where it is raised
            arrived.put((job_id, error))

    for job_id in job_ids:
        threading.Thread(target=read, args=(job_id,), name=f"follow-{job_id}", daemon=True).start()
    running = set(job_ids)
    while running:
        job_id, update = arrived.get()
        if isinstance(update, Exception):
            raise update
        if isinstance(update, Done):
            running.discard(job_id)
        yield job_id, update


def _understand(frame: Frame) -> Update | None:
    """Return what a frame says; None for a kind that a newer server added."""
    if frame.event == "job.event":
        event: Any = parse_object(frame.data)
        return Happened(cast("Event", event))
    if frame.event == "progress":
        return Updated(cast("list[Step]", parse_object(frame.data).get("steps") or []))
    if frame.event == "done":
        job: Any = parse_object(frame.data)
        return Done(cast("Job", job))
    return None
