"""Submit a job by a form."""

from http import HTTPStatus
from typing import Any

from flask import request, url_for
from pydantic import BaseModel, ConfigDict, Field

from api.auth import team_id
from api.planning import Plan, plan_request
from api.portal.answers import Errors, Texts
from api.portal.blueprint import page, routes, see
from api.portal.job_form import JobForm
from api.portal.text_choice import choice_of_texts
from api.presenting import job_object
from api.services import services
from api.submitting import submit_request
from core.errors import NoCapacity, RequestError
from db import jobs
from engines import methods
from engines.methods.base import registered
from engines.recipe import parse_recipe, preset_recipe

ONLY_PLAN = "plan"  # the name of the button
FIRST_METHOD = "gguf"  # runs on every machine


class NewJobQuery(BaseModel):
    """What the form begins with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str | None = Field(default=None, max_length=64)
    recipe: str | None = Field(default=None, max_length=256, description="A recipe to begin with, in short form")
    source: str | None = Field(default=None, max_length=4096)
    like: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]{1,64}$", description="A job to begin with")


@routes.get("/jobs/new")
@routes.input(NewJobQuery, location="query", arg_name="wanted")
def new_job(wanted: NewJobQuery) -> Any:
    """Show the form with defaults, with a recipe's parameters, or with what another job asked for."""
    given: dict[str, Any] = {}
    if wanted.like is not None:
        like, team = wanted.like, team_id()
        job = job_object(services().database.run(lambda session: jobs.get(session, team, like)))
        given = {**job.model_dump(), "gate": [condition.short for condition in job.gate]}
    if wanted.recipe is not None:
        recipe = parse_recipe(wanted.recipe)
        given |= {"method": recipe.method.name, "parameters": recipe.parameters}
    form = _form(wanted.method or given.get("method", FIRST_METHOD))
    parameters = given.get("parameters", {}) if form.method.name == given.get("method") else {}
    if wanted.source is not None:
        given["source"] = wanted.source
    return _page(form, form.texts_with(given, parameters), wanted)


@routes.post("/jobs/new")
@routes.input(NewJobQuery, location="query", arg_name="wanted")
def submit_job(wanted: NewJobQuery) -> Any:
    """Submit what was typed, or show it again with its forecast, or with what is wrong."""
    form = _form(request.form.get("method", ""))
    asked, errors = form.read(request.form)
    if asked is not None:
        team = team_id()
        try:
            if ONLY_PLAN in request.form:
                plan = services().database.run(lambda session: plan_request(session, team, asked))
                return _page(form, request.form, wanted, plan=plan)
            job_id = services().database.run(lambda session: submit_request(session, team, asked))
        except NoCapacity as error:
            errors = {"wait_for_capacity": error.message}  # what to do stands there
        except RequestError as error:
            errors = {form.name_of(tuple((error.param or "").split("."))): error.message}
        else:
            return see(url_for("portal.job", job_id=job_id))
    return _page(form, request.form, wanted, errors=errors)


def _form(method: str) -> JobForm:
    return JobForm.of(methods.get(method), choice_of_texts())


def _page(
    form: JobForm, typed: Texts, wanted: NewJobQuery, *, errors: Errors | None = None, plan: Plan | None = None
) -> Any:
    known = sorted(registered().values(), key=lambda method: method.name)
    presets = [(preset_recipe(form.method, preset)[0], preset.why) for preset in form.method.presets]
    return page(
        "new_job.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if errors else HTTPStatus.OK,
        form=form,
        methods=known,
        presets=presets,
        texts=typed,
        errors=form.shown(errors or {}),
        labels=form.labels,
        wanted=wanted,
        plan=plan,
    )
