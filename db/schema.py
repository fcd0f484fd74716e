"""Which schema a database has, and which one this code was written for."""

import functools
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import column, inspect, select, table
from sqlalchemy.orm import Session

_MIGRATIONS = Path(__file__).parent.parent / "migrations"
_VERSION = table("alembic_version", column("version_num"))


def is_current(session: Session) -> bool:
    """Return whether every migration, and none that this code does not know, has been run."""
    # Read here and not by Alembic, which writes two lines to the log each time that it looks.
    if not inspect(session.connection()).has_table(_VERSION.name):
        return False
    return session.scalars(select(_VERSION.c.version_num)).all() == [_newest()]


@functools.cache
def _newest() -> str | None:
    return ScriptDirectory(str(_MIGRATIONS)).get_current_head()
