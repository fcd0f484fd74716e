"""The portal as the application takes it: every page, on one blueprint."""

from apiflask import APIFlask

from api.portal import blueprint, job_page, jobs_page, new_job, signing_in, texts_page

PAGES = (signing_in, jobs_page, new_job, job_page, texts_page)


def install(app: APIFlask) -> None:
    """Add the portal to an application."""
    blueprint.install(app)
    app.register_blueprint(blueprint.routes)
