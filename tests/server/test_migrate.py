"""Who needs the schema waits until it is there, and says what it waits for."""

import time

import pytest
from sqlalchemy import text

from db.session import Database
from server.migrate import wait_until_current
from server.signals import StopRequested


def set_version(database: Database, version: str) -> str:
    with database.transaction() as session:
        before = session.scalar(text("SELECT version_num FROM alembic_version"))
        session.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    return str(before)


def test_a_current_schema_is_not_waited_for(database: Database) -> None:
    said: list[str] = []
    wait_until_current(database.url, said.append, time.sleep)
    assert said == []


def test_an_old_schema_is_waited_for_and_said_once(database: Database) -> None:
    newest = set_version(database, "0000")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            set_version(database, newest)

    said: list[str] = []
    wait_until_current(database.url, said.append, pause)
    assert len(pauses) == 3
    assert len(said) == 1
    assert "fewbitsd migrate" in said[0]


def test_a_postgres_that_is_away_is_waited_for_until_asked_to_stop() -> None:
    def stop(_: float) -> None:
        raise StopRequested

    said: list[str] = []
    with pytest.raises(StopRequested):
        wait_until_current("postgresql://u:secret@127.0.0.1:1/x", said.append, stop)
    assert "waiting for Postgres" in said[0]
    assert "secret" not in said[0]
