"""Jobs: submit, list, read, cancel, retry."""

from collections.abc import Callable
from functools import partial
from typing import Any

from apiflask import APIBlueprint
from flask import request, url_for
from sqlalchemy.orm import Session

from api import pages, responses
from api.auth import team_id
from api.creating import HEADERS, answer_with_new
from api.openapi import problems
from api.presenting import attempt_object, job_object
from api.requests import JobQuery, JobRequest, NoQuery, OnceHeaders
from api.services import services
from api.submitting import retry_job, submit_request
from core.ids import JobId, TeamId
from db import jobs, waiting
from db.idempotency import Answer

routes = APIBlueprint("jobs", __name__, url_prefix="/v1", tag="Jobs")


@routes.post("/jobs")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.input(OnceHeaders, location="headers", arg_name="once")
@routes.input(JobRequest, arg_name="wanted")
@routes.output(responses.Job, status_code=201)
@routes.doc(responses={201: {"headers": HEADERS}, **problems(400, 409, 413, 415, 422, 429)})
def submit_job(wanted: JobRequest, once: OnceHeaders, _query: NoQuery) -> Any:
    """Submit a job.

    It is written down and waits for a worker; the answer does not wait for any work.
    """
    make = partial(submit_request, wanted=wanted)
    return answer_with_new(partial(_show_new, make), once.idempotency_key, request.get_json())


@routes.get("/jobs")
@routes.input(JobQuery, location="query", arg_name="wanted")
@routes.output(pages.JobPage)
@routes.doc(responses=problems(422))
def list_jobs(wanted: JobQuery) -> Any:
    """List the team's jobs, newest first."""
    team = team_id()
    shown = jobs.JobFilter(wanted.status, wanted.method, wanted.created_after, wanted.label, wanted.sweep)
    rows, has_more = services().database.run(
        lambda session: jobs.list_page(session, team, shown, wanted.after, wanted.limit)
    )
    return pages.JobPage(data=[job_object(job) for job in rows], has_more=has_more)


@routes.get("/jobs/<id:job_id>")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(responses.Job)
@routes.doc(responses=problems(404, 422))
def get_job(job_id: str, _query: NoQuery) -> Any:
    """Read a job."""
    return _read(team_id(), job_id)


@routes.get("/jobs/<id:job_id>/attempts")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(pages.AttemptPage)
@routes.doc(responses=problems(404, 422))
def list_attempts(job_id: str, _query: NoQuery) -> Any:
    """List the attempts of a job's steps: where each was made, and how it ended."""
    team = team_id()
    rows = services().database.run(lambda session: jobs.attempts(session, team, job_id))
    return pages.AttemptPage(data=[attempt_object(step, attempt) for step, attempt in rows], has_more=False)


@routes.post("/jobs/<id:job_id>/cancel")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(responses.Job)
@routes.doc(responses=problems(404, 409, 413, 422))
def cancel_job(job_id: str, _query: NoQuery) -> Any:
    """Cancel a job.

    Its status is then cancelling, until the step that runs has been stopped, or cancelled. Again changes nothing.
    """
    team = team_id()
    services().database.run(lambda session: jobs.request_cancel(session, team, job_id))
    return _read(team, job_id)


@routes.post("/jobs/<id:job_id>/retry")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.input(OnceHeaders, location="headers", arg_name="once")
@routes.output(responses.Job, status_code=201)
@routes.doc(responses={201: {"headers": HEADERS}, **problems(404, 409, 413, 422, 429)})
def retry_a_job(job_id: str, once: OnceHeaders, _query: NoQuery) -> Any:
    """Retry a job that is over.

    The answer is a new job with the same request, whose `retry_of` names the old one. Steps that had succeeded are done
    at once: their results are reused. In a sweep it takes the old one's place, which one job at a time may have.
    """
    return answer_with_new(partial(_show_new, partial(retry_job, job_id=job_id)), once.idempotency_key)


def _show_new(make: Callable[[Session, TeamId], JobId], session: Session, team: TeamId) -> Answer:
    job = job_object(jobs.get(session, team, make(session, team)))
    return Answer(location=url_for("jobs.get_job", job_id=job.id), body=job.model_dump_json())


def _read(team: TeamId, job_id: str) -> responses.Job:
    def whole(session: Session) -> responses.Job:
        job = jobs.get(session, team, job_id)
        return job_object(job, waiting.reasons(session, job))

    return services().database.run(whole)
