"""The portal as the application takes it: every page, on one blueprint."""

from apiflask import APIFlask

from api.portal import blueprint, datasets_page, job_page, jobs_page, new_job, signing_in

PAGES = (signing_in, jobs_page, new_job, job_page, datasets_page)


def install(app: APIFlask) -> None:
    """Add the portal to an application."""
    blueprint.install(app)
    app.register_blueprint(blueprint.routes)
