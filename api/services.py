"""What the routes work with. Composed once by ``api.app.create_app``, found through the current application."""

from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from api.event_feed import EventFeed
from core.settings import Settings
from db.session import Database
from store.port import BlobStore

_NAME = "fewbits"


@dataclass(frozen=True)
class Services:
    """The parts of one running API."""

    settings: Settings
    database: Database
    store: BlobStore
    feed: EventFeed


def provide(app: Flask, parts: Services) -> None:
    """Make ``parts`` known to an application's routes."""
    app.extensions[_NAME] = parts


def services_of(app: Flask) -> Services:
    """Return an application's parts."""
    return cast("Services", app.extensions[_NAME])


def services() -> Services:
    """Return the current application's parts."""
    return services_of(current_app)
