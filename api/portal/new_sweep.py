"""Submit a sweep by a form."""

from http import HTTPStatus
from typing import Any

from flask import request, url_for
from pydantic import BaseModel, ConfigDict, Field

from api.auth import team_id
from api.portal.answers import Errors, Texts
from api.portal.blueprint import page, routes, see
from api.portal.sweep_form import SweepForm
from api.portal.text_choice import choice_of_texts
from api.services import services
from api.sweeping import submit_sweep as write_sweep
from core.errors import NoCapacity, RequestError
from pipeline.sweep_presets import PRESETS, preset_recipes


class NewSweepQuery(BaseModel):
    """What the form begins with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str | None = Field(default=None, max_length=4096)


@routes.get("/sweeps/new")
@routes.input(NewSweepQuery, location="query", arg_name="wanted")
def new_sweep(wanted: NewSweepQuery) -> Any:
    """Show the form with defaults."""
    form = SweepForm.of(choice_of_texts())
    return _page(form, form.texts({} if wanted.source is None else {"source": wanted.source}), {})


@routes.post("/sweeps/new")
def submit_sweep() -> Any:
    """Submit what was typed, or show it again with what is wrong."""
    form = SweepForm.of(choice_of_texts())
    asked, errors = form.read(request.form)
    if asked is None:
        return _page(form, request.form, errors)
    team = team_id()
    try:
        sweep_id = services().database.run(lambda session: write_sweep(session, team, asked))
    except NoCapacity as error:
        return _page(form, request.form, {"wait_for_capacity": error.message})  # what to do stands there
    except RequestError as error:
        return _page(form, request.form, form.refusal(error, asked.recipes))
    return see(url_for("portal.sweep", sweep_id=sweep_id))


def _page(form: SweepForm, typed: Texts, errors: Errors) -> Any:
    return page(
        "new_sweep.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if errors else HTTPStatus.OK,
        form=form,
        presets={preset: [recipe.short for recipe in preset_recipes(preset)] for preset in PRESETS},
        texts=typed,
        errors=form.shown(errors),
        labels=form.labels,
    )
