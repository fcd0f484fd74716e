"""The team's sweeps, newest first."""

from typing import Any

from flask import request
from pydantic import Field
from sqlalchemy import select

from api.auth import team_id
from api.portal.blueprint import page, routes
from api.requests import Limit
from api.services import services
from api.sweep_objects import sweep_object
from api.sweep_requests import SweepQuery
from db import clock, sweeps

SWEEPS_ON_A_PAGE = 25


class SweepsPageQuery(SweepQuery):
    """Which sweeps the page shows."""

    limit: Limit = Field(default=SWEEPS_ON_A_PAGE)


@routes.get("/sweeps", endpoint="sweeps")
@routes.input(SweepsPageQuery, location="query", arg_name="wanted")
def list_sweeps(wanted: SweepsPageQuery) -> Any:
    """Show the sweeps."""
    team, database = team_id(), services().database
    rows, has_more = database.run(lambda session: sweeps.list_page(session, team, wanted.after, wanted.limit))
    return page(
        "sweeps.html",
        sweeps=[sweep_object(sweep) for sweep in rows],
        older={**request.args.to_dict(), "after": rows[-1].id} if has_more else None,
        newest={name: text for name, text in request.args.items() if name != "after"} if wanted.after else None,
        now=database.run(lambda session: session.scalar(select(clock.now()))),
    )
