"""Sweeps: submit, list, read, extend, cancel."""

from collections.abc import Callable
from functools import partial
from typing import Any

from apiflask import APIBlueprint
from flask import request, url_for
from sqlalchemy.orm import Session

from api.auth import team_id
from api.creating import HEADERS, answer_with_new
from api.openapi import problems
from api.requests import NoQuery, OnceHeaders
from api.services import services
from api.sweep_objects import Inside, Sweep, SweepPage, prices_of, sweep_object
from api.sweep_requests import ExtensionRequest, SweepQuery, SweepRequest
from api.sweeping import extend_sweep, submit_sweep
from core.ids import SweepId, TeamId
from db import sweeps
from db.idempotency import Answer

routes = APIBlueprint("sweeps", __name__, url_prefix="/v1", tag="Sweeps")


@routes.post("/sweeps")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.input(OnceHeaders, location="headers", arg_name="once")
@routes.input(SweepRequest, arg_name="wanted")
@routes.output(Sweep, status_code=201)
@routes.doc(responses={201: {"headers": HEADERS}, **problems(400, 409, 413, 415, 422, 429)})
def submit_sweep_(wanted: SweepRequest, once: OnceHeaders, _query: NoQuery) -> Any:
    """Submit a sweep: a job for each of many recipes on one source.

    All of them are written down, or none. What they have in common is done once: they are made of one snapshot of the
    source, one conversion, one importance matrix for each text, and compared with one set of answers of full precision.
    """
    make = partial(_show, partial(submit_sweep, wanted=wanted))
    return answer_with_new(make, once.idempotency_key, request.get_json())


@routes.get("/sweeps")
@routes.input(SweepQuery, location="query", arg_name="wanted")
@routes.output(SweepPage)
@routes.doc(responses=problems(422))
def list_sweeps(wanted: SweepQuery) -> Any:
    """List the team's sweeps, newest first."""
    team = team_id()
    rows, has_more = services().database.run(
        lambda session: sweeps.list_page(session, team, wanted.after, wanted.limit)
    )
    return SweepPage(data=[sweep_object(sweep) for sweep in rows], has_more=has_more)


@routes.get("/sweeps/<id:sweep_id>")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(Sweep)
@routes.doc(responses=problems(404, 422))
def get_sweep(sweep_id: str, _query: NoQuery) -> Any:
    """Read a sweep: a row for each recipe, which of them no other beats, and which is recommended."""
    team = team_id()
    return services().database.run(lambda session: read_sweep(session, team, sweep_id))


@routes.post("/sweeps/<id:sweep_id>/recipes")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.input(OnceHeaders, location="headers", arg_name="once")
@routes.input(ExtensionRequest, arg_name="wanted")
@routes.output(Sweep, status_code=201)
@routes.doc(responses={201: {"headers": HEADERS}, **problems(400, 404, 409, 413, 415, 422, 429)})
def extend_a_sweep(sweep_id: str, wanted: ExtensionRequest, once: OnceHeaders, _query: NoQuery) -> Any:
    """Add recipes to a sweep, whether it has ended or not; only these run.

    They are asked for with what the sweep was submitted with, and made of the same snapshot of its source.
    """
    make = partial(_show, partial(extend_sweep, sweep_id=sweep_id, recipes=wanted.recipes))
    return answer_with_new(make, once.idempotency_key, request.get_json())


@routes.post("/sweeps/<id:sweep_id>/cancel")
@routes.input(NoQuery, location="query", arg_name="_query")
@routes.output(Sweep)
@routes.doc(responses=problems(404, 409, 413, 422))
def cancel_sweep(sweep_id: str, _query: NoQuery) -> Any:
    """Cancel each job of a sweep that is not over. Again changes nothing."""
    team = team_id()
    database = services().database
    database.run(lambda session: sweeps.request_cancel(session, team, sweep_id))
    return database.run(lambda session: read_sweep(session, team, sweep_id))


def _show(make: Callable[[Session, TeamId], SweepId], session: Session, team: TeamId) -> Answer:
    sweep = read_sweep(session, team, make(session, team))
    return Answer(location=url_for("sweeps.get_sweep", sweep_id=sweep.id), body=sweep.model_dump_json())


def read_sweep(session: Session, team: TeamId, sweep_id: str) -> Sweep:
    """Return a sweep with what is inside.

    Raises:
        NotFound: there is none of that id in this team.
    """
    sweep = sweeps.get(session, team, sweep_id)
    prices = prices_of(services().settings)
    return sweep_object(sweep, Inside(sweeps.jobs_of(session, sweep.id), sweeps.work(session, sweep.id), prices))
