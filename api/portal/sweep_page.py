"""One sweep: what was asked, what came of each recipe, which to ship; to be followed, extended and cancelled."""

from http import HTTPStatus
from typing import Any

from flask import Response, request, url_for

from api.auth import team_id
from api.portal.answers import Errors, Texts
from api.portal.blueprint import page, routes, see
from api.portal.sweep_form import extension_form
from api.portal.sweep_view import view
from api.routes.sweeps import read_sweep
from api.services import services
from api.sweep_report import sweep_report
from api.sweeping import extend_sweep
from core.errors import NotFound, RequestError
from db import sweeps


@routes.get("/sweeps/<id:sweep_id>")
def sweep(sweep_id: str) -> Any:
    """Show the sweep."""
    return _page(sweep_id, extension_form().texts({}), {})


@routes.get("/sweeps/<id:sweep_id>/report")
def report_of_sweep(sweep_id: str) -> Any:
    """Download the sweep's report as it is now."""
    team = team_id()
    read = services().database.run(lambda session: read_sweep(session, team, sweep_id))
    headers = {"Content-Disposition": f'attachment; filename="{sweep_id}-report.html"'}
    return Response(sweep_report(read, request.url_root), headers=headers, mimetype="text/html")


@routes.post("/sweeps/<id:sweep_id>")
def extend_a_sweep(sweep_id: str) -> Any:
    """Add the recipes that were typed, or show the page with what is wrong with them."""
    team, form = team_id(), extension_form()
    asked, errors = form.read(request.form)
    if asked is None:
        return _page(sweep_id, request.form, errors)
    try:
        services().database.run(lambda session: extend_sweep(session, team, sweep_id, asked.recipes))
    except NotFound:
        raise
    except RequestError as error:
        return _page(sweep_id, request.form, form.refusal(error, asked.recipes))
    return see(url_for("portal.sweep", sweep_id=sweep_id))


@routes.post("/sweeps/<id:sweep_id>/cancel")
def cancel_sweep(sweep_id: str) -> Any:
    """Cancel each job of the sweep that is not over."""
    team = team_id()
    services().database.run(lambda session: sweeps.request_cancel(session, team, sweep_id))
    return see(url_for("portal.sweep", sweep_id=sweep_id))


def _page(sweep_id: str, typed: Texts, errors: Errors) -> Any:
    team, form = team_id(), extension_form()
    return page(
        "sweep.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if errors else HTTPStatus.OK,
        view=services().database.run(lambda session: view(session, team, sweep_id)),
        form=form,
        texts=typed,
        errors=form.shown(errors),
        labels=form.labels,
    )
