"""What `fewbitsd up` asks of the database and of the API: a first key, and whether all is ready."""

import http.client
import socket
from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core.errors import NotAuthenticated
from db.keys import authenticate, create_key
from db.session import Database
from db.tables import Worker
from db.workers import is_live

FIRST_TEAM = "default"
HTTP_SECONDS = 5.0


def ensure_key(database_url: str, known: str) -> str:
    """Return ``known`` if the database knows it too, else a new key of the first team."""

    def verb(session: Session) -> str:
        try:
            authenticate(session, known)
        except NotAuthenticated:
            _, key = create_key(session, FIRST_TEAM, "fewbitsd up")
            return key
        return known

    database = Database(database_url, connections_max=1)
    try:
        return database.run(verb)
    finally:
        database.dispose()


def api_is_ready(host: str, port: int) -> bool:
    """Say whether the API answers that it can do its work."""
    connection = http.client.HTTPConnection(host, port, timeout=HTTP_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def workers_are_registered(database_url: str, pids: Collection[int]) -> bool:
    """Say whether each of the worker processes has written its row. Rows of a killed predecessor do not count."""
    database = Database(database_url, connections_max=1)
    try:
        with database.transaction() as session:
            condition = is_live() & Worker.pid.in_(pids) & (Worker.host == socket.gethostname())
            statement = select(func.count(Worker.pid.distinct())).where(condition)
            return session.scalar(statement) == len(pids)
    except OperationalError:
        return False
    finally:
        database.dispose()
