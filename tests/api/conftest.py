import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask import Response, request
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from api.app import create_app
from api.services import services_of
from core.settings import Settings
from db import keys
from db.session import Database
from tests.api.work import register_one_a_pool

SOURCE = "file:///models/tiny"


@dataclass(frozen=True)
class Caller:
    """A team's view of the API."""

    client: FlaskClient
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.client.get(path, headers={**self.headers, **headers})

    def post(self, path: str, body: Any = None) -> TestResponse:
        return self.client.post(path, json=body, headers=self.headers)

    def submit(self, recipe: Any = "gguf:Q4_K_M", **fields: Any) -> dict[str, Any]:
        response = self.post("/v1/jobs", {"source": SOURCE, "recipe": recipe, **fields})
        assert response.status_code == 201, response.text
        job: dict[str, Any] = response.get_json()
        return job


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=SecretStr(database_url),
        store_url=f"file://{tmp_path}/store",
        source_roots=(Path("/models"),),
        publish_roots=(Path("/published"),),
    )


@pytest.fixture
def app(settings: Settings, database: Database) -> Iterator[APIFlask]:
    """The application; whatever it answers in a test must be documented."""
    register_one_a_pool(database)
    app = create_app(settings, database)
    answered: set[tuple[str, str, str]] = set()

    @app.after_request
    def note(response: Response) -> Response:
        if request.url_rule is not None:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", request.url_rule.rule)
            answered.add((path, request.method.lower(), str(response.status_code)))
        return response

    yield app
    services_of(app).feed.close()
    document = app.test_client().get("/openapi.json").get_json()
    for path, method, status in answered:
        operation = document["paths"].get(path, {}).get(method)
        assert operation is None or status in operation["responses"], (path, method, status)


def new_key(database: Database, team: str) -> str:
    return database.run(lambda session: keys.create_key(session, team, "tests"))[1]


@pytest.fixture
def caller(app: APIFlask, database: Database) -> Caller:
    return Caller(app.test_client(), new_key(database, "ours"))


@pytest.fixture
def stranger(app: APIFlask, database: Database) -> Caller:
    return Caller(app.test_client(), new_key(database, "theirs"))


def problem_of(response: TestResponse) -> dict[str, Any]:
    """The problem document of an answer, once it is known to be a complete one."""
    assert response.content_type == "application/problem+json", response.text
    problem: dict[str, Any] = response.get_json()
    assert problem["status"] == response.status_code
    assert problem.keys() - {"errors"} == {"type", "title", "status", "detail", "instance", "code"}
    assert response.headers["X-Request-Id"]
    return problem


def pointers(response: TestResponse) -> list[str]:
    return [error["pointer"] for error in problem_of(response)["errors"]]
