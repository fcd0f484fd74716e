"""One job: what was asked, how far it is, what came out; to be followed, cancelled, retried and downloaded."""

from typing import Any

from flask import Response, url_for

from api.auth import still_allowed, team_id
from api.event_stream import EVENT_STREAM, Asker, stream_events
from api.portal.blueprint import page, routes, see
from api.portal.job_view import view
from api.requests import EventQuery
from api.routes.artifacts import answer_with_file
from api.services import services
from api.submitting import retry_job
from db import jobs


@routes.get("/jobs/<id:job_id>")
def job(job_id: str) -> Any:
    """Show the job."""
    team = team_id()
    return page("job.html", view=services().database.run(lambda session: view(session, team, job_id)))


@routes.get("/jobs/<id:job_id>/events")
@routes.input(EventQuery, location="query", arg_name="wanted")
def job_events(job_id: str, wanted: EventQuery) -> Any:
    """Say when the page has something new to show."""
    team = team_id()
    services().database.run(lambda session: jobs.require(session, team, job_id))
    body = stream_events(services(), Asker(team, still_allowed()), job_id, wanted.after)
    return Response(body, mimetype=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})


@routes.get("/jobs/<id:job_id>/files/<id:artifact_id>/<path:name>")
def job_file(job_id: str, artifact_id: str, name: str) -> Any:
    """Download a file of the result."""
    return answer_with_file(job_id, artifact_id, name)


@routes.post("/jobs/<id:job_id>/cancel")
def cancel_job(job_id: str) -> Any:
    """Cancel the job."""
    team = team_id()
    services().database.run(lambda session: jobs.request_cancel(session, team, job_id))
    return see(url_for("portal.job", job_id=job_id))


@routes.post("/jobs/<id:job_id>/retry")
def retry(job_id: str) -> Any:
    """Submit the job again."""
    team = team_id()
    new_id = services().database.run(lambda session: retry_job(session, team, job_id))
    return see(url_for("portal.job", job_id=new_id))
