"""One job's story as Server-Sent Events: what has happened, then what happens, until the job is over.

Between looks at the tables a stream holds no database connection: only its place among the feed's subscribers.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.presenting import event_object, job_object, step_object
from api.services import Services
from core.errors import NotAuthenticated
from core.ids import TeamId
from core.logging import log
from db import events, jobs
from db.session import UNAVAILABLE
from db.shown import ShownJob
from db.states import JobStatus, is_terminal
from db.tables import Event

EVENT_STREAM = "text/event-stream"  # its media type
POLL_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 15.0
EVENTS_AT_ONCE = 100


@dataclass(frozen=True)
class Asker:
    """Who follows: the team, and a check that raises once its key is not good any more."""

    team_id: TeamId
    still_allowed: Callable[[Session], object]


@dataclass(frozen=True)
class _Look:
    """What one look at the tables found."""

    job: ShownJob
    news: Sequence[Event]

    def is_last(self, number: int) -> bool:
        return is_terminal(JobStatus(self.job.status)) and number >= self.job.event_count

    def steps(self) -> str:
        return json.dumps({"steps": [step_object(step).model_dump(mode="json") for step in self.job.steps]})


def stream_events(parts: Services, asker: Asker, job_id: str, after: int) -> Iterator[str]:
    """Yield frames: numbered events after ``after``, unnumbered progress as it changes, at the end the job.

    Args:
        parts: the application's parts.
        asker: who asks; the job is known to be its team's.
        job_id: whose events.
        after: the number of the last event that the client has.
    """
    shown = ""
    with parts.feed.subscribe(job_id) as news:
        written = time.monotonic()
        while not parts.feed.closed:
            news.clear()  # before the look: what comes while we look is seen by the next one
            try:
                found = parts.database.run(partial(_look, asker=asker, job_id=job_id, after=after))
            except NotAuthenticated:
                return
            except UNAVAILABLE as error:
                log.warning("event stream ends: postgres did not answer", error=type(error).__name__)
                return  # the client comes back with the number it has
            frames = [_frame("job.event", event_object(event), event.number) for event in found.news]
            after = _last(found, after)
            if found.is_last(after):
                yield "".join([*frames, _frame("done", job_object(found.job, waits_for=()))])
                return
            steps = found.steps()
            if steps != shown:
                frames.append(f"event: progress\ndata: {steps}\n\n")
                shown = steps
            if not frames and time.monotonic() - written >= KEEP_ALIVE_SECONDS:
                frames.append(": keep-alive\n\n")
            if frames:
                yield "".join(frames)
                written = time.monotonic()
            if len(found.news) < EVENTS_AT_ONCE:
                due = written + KEEP_ALIVE_SECONDS - time.monotonic()
                news.wait(max(0.0, min(POLL_SECONDS, due)))


def _look(session: Session, asker: Asker, job_id: str, after: int) -> _Look:
    asker.still_allowed(session)
    # The job first: if it is over, then so is its story, and the second read has the end of it.
    job = jobs.get(session, asker.team_id, job_id)
    return _Look(job, events.after(session, job_id, after, EVENTS_AT_ONCE))


def _last(found: _Look, after: int) -> int:
    return found.news[-1].number if found.news else after


def _frame(event: str, content: BaseModel, number: int | None = None) -> str:
    """Return one frame; its JSON holds no line break, so one data line is enough."""
    numbered = f"id: {number}\n" if number is not None else ""
    return f"{numbered}event: {event}\ndata: {content.model_dump_json()}\n\n"
