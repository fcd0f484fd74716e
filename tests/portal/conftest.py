import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page
from pydantic import SecretStr
from werkzeug.test import TestResponse

from api.app import create_app
from api.services import services_of
from core.settings import Settings
from db.session import Database
from tests.api.conftest import new_key
from tests.api.serving import serving
from tests.api.work import register_one_a_pool

WIDTHS = (1280, 390)
ODD = "tests.portal.odd_method"
TOKEN = re.compile(r'name="form_token" value="(\w+)"')


@dataclass
class Visitor:
    """A browser without eyes: keeps cookies, and sends forms as pages have them."""

    client: FlaskClient
    key: str

    def sign_in(self) -> TestResponse:
        return self.client.post("/sign-in", data={"key": self.key})

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.client.get(path, headers=headers)

    def token(self) -> str:
        found = TOKEN.search(self.get("/jobs").text)
        assert found
        return found[1]

    def post(self, path: str, **fields: str | list[str]) -> TestResponse:
        return self.client.post(path, data={"form_token": self.token(), **fields})

    def submit(self, **fields: str | list[str]) -> str:
        """Submit the form with a few answers, and return the address of the job."""
        given = {"method": "gguf", "source": "file:///models/tiny", "recipe.type": "Q8_0", "evaluation.domains": "code"}
        response = self.post("/jobs/new", **(given | fields))
        assert response.status_code == 303, response.text
        return response.headers["Location"]


@pytest.fixture
def app(database_url: str, database: Database, tmp_path: Path) -> Iterator[APIFlask]:
    settings = Settings(
        database_url=SecretStr(database_url),
        store_url=f"file://{tmp_path}/store",
        source_roots=(Path("/models"),),
        method_modules=(ODD,),
    )
    register_one_a_pool(database)
    app = create_app(settings, database)
    yield app
    services_of(app).feed.close()


@pytest.fixture
def visitor(app: APIFlask, database: Database) -> Visitor:
    """Somebody who has signed in."""
    visitor = Visitor(app.test_client(), new_key(database, "ours"))
    assert visitor.sign_in().status_code == 303
    return visitor


@pytest.fixture
def stranger(app: APIFlask, database: Database) -> Visitor:
    """Somebody of another team who has signed in."""
    stranger = Visitor(app.test_client(), new_key(database, "theirs"))
    assert stranger.sign_in().status_code == 303
    return stranger


def shown(response: TestResponse) -> str:
    """What a page says, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.text)).split())


@pytest.fixture
def width() -> int:
    """How wide the browser is, where a test does not say."""
    return WIDTHS[0]


@pytest.fixture
def key(database: Database) -> str:
    register_one_a_pool(database)
    return new_key(database, "Language models")


@pytest.fixture
def page(chromium: Browser, database_url: str, key: str, width: int, tmp_path: Path) -> Iterator[Page]:
    """A page of somebody who has signed in to the portal under its production server.

    At the end no page may have complained, or asked another host for anything.
    """
    complaints: list[str] = []
    with serving(database_url, tmp_path, FEWBITS_METHOD_MODULES=ODD) as server:
        context = chromium.new_context(viewport={"width": width, "height": 800}, base_url=server.url)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda sent: None if sent.url.startswith(server.url) else complaints.append(sent.url))
        page.goto("/sign-in")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/jobs")
        yield page
        context.close()
    # Chromium always mentions an answer whose status is that of an error, and one that a test has kept from coming.
    assert [text for text in complaints if not re.search("status of (401|404|409|422)|ERR_FAILED", text)] == []
