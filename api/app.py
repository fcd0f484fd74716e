"""The composition of the API: one function that puts the parts together."""

from apiflask import APIFlask

from api import access_log, auth, content, openapi, problems
from api.event_feed import EventFeed
from api.portal import views as portal
from api.routes import BLUEPRINTS, IdConverter
from api.services import Services, provide
from api.strict_json import StrictJSONProvider
from core.logging import configure_logging
from core.settings import Settings
from core.settings import settings as process_settings
from db.notify import JOBS
from db.session import Database
from engines import methods
from store.opening import open_store


def create_app(settings: Settings | None = None, database: Database | None = None) -> APIFlask:
    """Return the WSGI application.

    Args:
        settings: the process's own where none are given.
        database: opened by the settings where none is given.
    """
    if settings is None:
        settings = process_settings("store_url")
        configure_logging(settings.log_level)
    if database is None:
        database = Database(settings.database_url.get_secret_value())
    methods.load(settings.method_modules)
    app = APIFlask(
        __name__,
        title="fewbits",
        version="1",
        docs_path=None,  # api/routes/docs.py: APIFlask's own page loads its scripts from elsewhere
        json_errors=False,
        static_folder=None,  # type: ignore[arg-type]  # as Flask itself has it
    )
    app.json = StrictJSONProvider(app)
    app.url_map.merge_slashes = False  # no answer by a redirect, which is a page and no problem document
    app.url_map.converters["id"] = IdConverter
    provide(app, Services(settings, database, open_store(settings), EventFeed(database.url, JOBS)))
    openapi.configure(app)
    problems.install(app)
    for step in (access_log, auth, content):  # in the order in which they see a request
        step.install(app)
    portal.install(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app
