"""The portal as the application takes it: every page, on one blueprint."""

from apiflask import APIFlask

from api.portal import (
    blueprint,
    datasets_page,
    job_page,
    jobs_page,
    new_job,
    new_sweep,
    signing_in,
    sweep_page,
    sweeps_page,
)

PAGES = (signing_in, jobs_page, sweeps_page, new_job, new_sweep, job_page, sweep_page, datasets_page)


def install(app: APIFlask) -> None:
    """Add the portal to an application."""
    blueprint.install(app)
    app.register_blueprint(blueprint.routes)
