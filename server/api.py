"""The API under its production server: gunicorn with one gevent worker.

gevent, because an open event stream costs a greenlet and not a thread. The application is loaded in the worker, after
gevent has patched the standard library, since psycopg looks for that when it is imported: never preload, and import
neither the application nor psycopg here.
"""

import gc
from typing import Any

from gunicorn.app.base import BaseApplication

from core.settings import settings

GRACEFUL_SECONDS = 3  # for what is being answered; event streams end within half a second


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn publishes no types
    """gunicorn, configured here and by nothing else: no file, no arguments, no environment."""

    def load_config(self) -> None:
        """Set gunicorn's options."""
        values = settings()
        options = {
            "bind": f"{values.api_host}:{values.api_port}",
            "workers": 1,
            "worker_class": "gevent",
            "preload_app": False,
            "graceful_timeout": GRACEFUL_SECONDS,
            "loglevel": values.log_level.lower(),
            "control_socket_disable": True,
            "post_worker_init": _settle_in,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application; called in the worker."""
        from api.app import create_app

        return create_app()


def _settle_in(worker: Any) -> None:
    """Have open event streams end when the worker is told to stop, and the garbage collector pass over the application.

    To look through all that was imported took it some 60 ms each time, for which every request waited.
    """
    from api.services import services_of

    gc.collect()
    gc.freeze()
    services_of(worker.wsgi).feed.end_when(lambda: not worker.alive)


def serve() -> None:
    """Serve the API until SIGTERM."""
    Server().run()
