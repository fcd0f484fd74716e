"""A job's story, its log and its metrics: by the page, or as a stream."""

from typing import Any

from apiflask import APIBlueprint
from flask import Response, request

from api import pages
from api.auth import still_allowed, team_id
from api.event_stream import EVENT_STREAM, Asker, stream_events
from api.openapi import problems
from api.presenting import event_object, log_object, metric_object
from api.requests import INT4_MAX, EventQuery, LogQuery, MetricQuery
from api.services import services
from core.errors import InvalidRequest
from db import events, jobs, logs, metrics

FRAMES = {EVENT_STREAM: {"schema": {"description": "Server-Sent Events"}}}

routes = APIBlueprint("events", __name__, url_prefix="/v1", tag="Events, logs and metrics")


@routes.get("/jobs/<id:job_id>/events")
@routes.input(EventQuery, location="query", arg_name="wanted")
@routes.output(pages.EventPage)
@routes.doc(responses={200: {"content": FRAMES}, **problems(404, 422)})
def list_events(job_id: str, wanted: EventQuery) -> Any:
    """Read a job's events.

    With `Accept: text/event-stream` they are streamed as they happen: frames `job.event` with the event's number as
    their id, frames `progress` with the steps, and at the end `done` with the job. `Last-Event-ID` resumes a stream.
    """
    team, database = team_id(), services().database
    database.run(lambda session: jobs.require(session, team, job_id))
    if request.accept_mimetypes.best_match(["application/json", EVENT_STREAM]) == EVENT_STREAM:
        body = stream_events(services(), Asker(team, still_allowed()), job_id, _last_event_id(wanted.after))
        return Response(body, mimetype=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})
    rows = database.run(lambda session: events.after(session, job_id, wanted.after, wanted.limit + 1))
    shown = [event_object(event) for event in rows[: wanted.limit]]
    return pages.EventPage(data=shown, has_more=len(rows) > wanted.limit)


@routes.get("/jobs/<id:job_id>/logs")
@routes.input(LogQuery, location="query", arg_name="wanted")
@routes.output(pages.LogPage)
@routes.doc(responses=problems(404, 422))
def list_logs(job_id: str, wanted: LogQuery) -> Any:
    """Read what a job's steps printed."""
    team, database = team_id(), services().database
    database.run(lambda session: jobs.require(session, team, job_id))
    rows, has_more = database.run(
        lambda session: logs.page(session, job_id, wanted.step, wanted.after, wanted.limit, attempt=wanted.attempt)
    )
    return pages.LogPage(data=[log_object(step, chunk) for step, chunk in rows], has_more=has_more)


@routes.get("/jobs/<id:job_id>/metrics")
@routes.input(MetricQuery, location="query", arg_name="wanted")
@routes.output(pages.MetricPage)
@routes.doc(responses=problems(404, 422))
def list_metrics(job_id: str, wanted: MetricQuery) -> Any:
    """Read what a job's steps measured, module by module."""
    team, database = team_id(), services().database
    database.run(lambda session: jobs.require(session, team, job_id))
    rows, has_more = database.run(lambda session: metrics.page(session, job_id, wanted.after, wanted.limit))
    return pages.MetricPage(data=[metric_object(step, metric) for step, metric in rows], has_more=has_more)


def _last_event_id(otherwise: int) -> int:
    given = request.headers.get("Last-Event-ID", "")
    if not given:
        return otherwise
    if not (given.isascii() and given.isdigit() and len(given) <= len(str(INT4_MAX)) and int(given) <= INT4_MAX):
        raise InvalidRequest("Last-Event-ID must be the number of an event.", param="Last-Event-ID")
    return int(given)
