"""Real parts for every test: one Postgres, one broker and one S3 server a session, one fresh database a test."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser
from psycopg import sql

from db.session import Database
from server.embedded.broker import running_broker
from server.embedded.postgres import running_postgres
from server.migrate import upgrade
from tests.chromium import running_chromium
from tests.s3_server import S3Server

TEMPLATE = "template_fewbits"
REPOSITORY = Path(__file__).parent.parent
TINY_LLAMA = REPOSITORY / "demo" / "tiny-llama-6m"

_numbers = itertools.count()


@pytest.fixture(scope="session")
def tiny_llama() -> Path:
    return TINY_LLAMA


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process puts its temporary files for the time of a test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("postgres"), durable=False) as url:
        _execute(url, "CREATE DATABASE {}", TEMPLATE)
        upgrade(_named(url, TEMPLATE))
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_broker(tmp_path_factory.mktemp("broker")) as url:
        yield url


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _execute(postgres_url, "CREATE DATABASE {} TEMPLATE {}", name, TEMPLATE)
    yield _named(postgres_url, name)
    _execute(postgres_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def _named(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"


def _execute(url: str, statement: str, *names: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
