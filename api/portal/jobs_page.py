"""The team's jobs, newest first, with filters."""

from typing import Any

from flask import request
from pydantic import Field, field_validator
from sqlalchemy import select

from api.auth import team_id
from api.portal.blueprint import page, routes
from api.presenting import job_object
from api.requests import JobQuery, Limit
from api.services import services
from db import clock, jobs
from db.states import JobStatus
from engines.methods.base import registered

JOBS_ON_A_PAGE = 25


class JobsPageQuery(JobQuery):
    """Which jobs the page shows. A filter that is empty, as a form sends it, is none."""

    limit: Limit = Field(default=JOBS_ON_A_PAGE)

    @field_validator("status", "method", "label", "sweep", "created_after", "after", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None


@routes.get("/jobs", endpoint="jobs")
@routes.input(JobsPageQuery, location="query", arg_name="wanted")
def list_jobs(wanted: JobsPageQuery) -> Any:
    """Show the jobs."""
    team, database = team_id(), services().database
    shown = jobs.JobFilter(wanted.status, wanted.method, wanted.created_after, wanted.label, wanted.sweep)
    rows, has_more = database.run(lambda session: jobs.list_page(session, team, shown, wanted.after, wanted.limit))
    return page(
        "jobs.html",
        jobs=[job_object(job) for job in rows],
        older={**request.args.to_dict(), "after": rows[-1].id} if has_more else None,
        newest={name: text for name, text in request.args.items() if name != "after"} if wanted.after else None,
        wanted=wanted,
        is_filtered=bool(
            wanted.status or wanted.method or wanted.label or wanted.sweep or wanted.created_after or wanted.after
        ),
        statuses=[status.value for status in JobStatus],
        methods=sorted(registered()),
        now=database.run(lambda session: session.scalar(select(clock.now()))),
    )
